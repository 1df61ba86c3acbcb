"""Cancelling: lock the budget, ask by one UPDATE of the live row, end it there if QUEUED.

"QUEUED, else PROCESSING" in two guarded statements would lose an acknowledged cancel to a claim
between them.
"""

from uuid import UUID

from dpp import settlement
from dpp.money import ZERO
from dpp.ports import CancelAsked, CancelOutcome, Ended, RunUnknown
from dpp.runs import TERMINAL, Status
from dpp.store import endings, reads
from dpp.store.connections import Connection
from dpp.store.queries import queries
from dpp.store.transactions import transaction


async def cancel_run(
    connection: Connection, tenant_id: str, run_id: UUID, ending_id: UUID
) -> CancelOutcome:
    """Cancel a run of this tenant. Idempotent: asked again it answers as the run then is."""
    async with transaction(connection):
        budget = await queries.lock_budgets.fetch_one(connection, tenant_ids=[tenant_id])
        assert budget is not None, tenant_id
        asked = await queries.ask_cancel.fetch_one(connection, tenant_id=tenant_id, run_id=run_id)
        if asked is not None and asked["lease_id"] is None and not asked["quarantined"]:
            rows = await endings.read_rows(connection, [run_id], {tenant_id: budget})
            ended = settlement.ending(
                rows.live[run_id], ending_id, budget["seq"] + 1, Status.CANCELED, ZERO
            )
            await endings.write(connection, [ended])
        run = await reads.get_run(connection, tenant_id, run_id)
    if run is None:
        return RunUnknown()
    return Ended(run) if run.status in TERMINAL else CancelAsked(run)
