"""Runs that were: told from runs that never were, as long as their keys are kept."""

from uuid import UUID

from dpp.http.problems import Problem
from dpp.http.runs import no_such_run
from dpp.http.services import Services


async def gone(services: Services, tenant_id: str, run_id: UUID) -> Problem:
    """Return the answer for a run that is not there (any more)."""
    if await services.reads.is_pruned(tenant_id, run_id):
        detail = "the run is past retention; its transfers stay in the ledger"
        return Problem("run-expired", detail, {"run_id": str(run_id)})
    return no_such_run()
