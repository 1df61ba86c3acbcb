"""Cancelling: lock the budget, ask by one UPDATE of the live row, end it there if QUEUED.

"QUEUED, else PROCESSING" in two guarded statements would lose an acknowledged cancel to a claim
between them.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dpp import settlement
from dpp.admission import Busy
from dpp.cancels import CancelAsked, CancelOutcome, Ended, RunUnknown
from dpp.claims import Seen
from dpp.money import ZERO
from dpp.runs import TERMINAL, Run, Status
from dpp.store import endings, findings, reads
from dpp.store.connections import Connection
from dpp.store.queries import queries
from dpp.store.transactions import transaction


async def cancel_run(
    connection: Connection, tenant_id: str, run_id: UUID, ending_id: UUID, *, wait: bool
) -> CancelOutcome | Busy:
    """Cancel a run of this tenant. Idempotent: asked again it answers as the run then is."""
    lock = queries.lock_budgets if wait else queries.lock_budgets_free
    async with transaction(connection, "cancel"):
        budget = await lock.fetch_one(connection, tenant_ids=[tenant_id])
        if budget is None and not wait:
            return Busy()
        assert budget is not None, tenant_id
        asked = await queries.ask_cancel.fetch_one(connection, tenant_id=tenant_id, run_id=run_id)
        if asked is not None and asked["lease_id"] is None and not asked["quarantined"]:
            rows = await endings.read_rows(connection, [run_id], {tenant_id: budget})
            ended = settlement.ending(
                rows.live[run_id], ending_id, budget["seq"] + 1, Status.CANCELED, ZERO
            )
            await endings.write(connection, [ended])
        run = await reads.get_run(connection, tenant_id, run_id)
    return outcome(run)


async def set_aside(
    connection: Connection,
    tenant_id: str,
    run_id: UUID,
    evidence: Mapping[str, Any],
    finding_id: UUID,
) -> CancelOutcome:
    """Only note the cancel of a run whose end the database refuses: it waits for an operator.

    Asked again under its id it answers the same.
    """
    as_seen: Seen | None = None
    async with transaction(connection):
        (seen,) = await queries.seen_runs.fetch(connection, run_ids=[run_id]) or (None,)
        if seen is not None and seen["tenant_id"] == tenant_id:
            if await findings.set_aside(connection, reads.seen(seen), evidence, finding_id):
                as_seen = reads.seen(seen)
            await queries.ask_cancel.fetch(connection, tenant_id=tenant_id, run_id=run_id)
        run = await reads.get_run(connection, tenant_id, run_id)
    if as_seen is not None:
        findings.tell(as_seen, finding_id, evidence)
    return outcome(run)


def outcome(run: Run | None) -> CancelOutcome:
    """Say what a cancel came to, by the run as it is after it."""
    if run is None:
        return RunUnknown()
    return Ended(run) if run.status in TERMINAL else CancelAsked(run)
