"""Retention: close a tenant's books over old facts, then let those leave, in bounded batches.

A closing entry is a mark of the audit, written down: the same sums, added up by the same
statements. It is committed before anything that it covers may leave; what leaves goes by functions
of the schema (`dpp.prune`, `dpp.prune_bodies`, `dpp.forget_keys`), the one way that the facts'
triggers let pass. A row that somebody else holds is left to the next pass, and a tenant with an
open finding to its operator.
"""

from collections.abc import Mapping
from datetime import date

from dpp import auditing
from dpp.admission import Busy
from dpp.auditing import Mark, Usage, Window
from dpp.logs import get_logger
from dpp.retention import Keeping, Overdue, Pruned
from dpp.store.auditing import add_up, bounds, closings, usage_of
from dpp.store.connections import Connection
from dpp.store.queries import queries
from dpp.store.transactions import transaction

log = get_logger(__name__)


async def due(connection: Connection, keeping: Keeping, *, after: str, limit: int) -> list[Overdue]:
    """Return tenants by name behind `after`, and what there is to do for each."""
    rows = await queries.retention_due.fetch(
        connection,
        run_days=keeping.runs,
        transfer_days=keeping.transfers,
        after=after,
        limit=limit,
    )
    return [
        Overdue(
            tenant_id=row["tenant_id"],
            bodies=row["bodies"],
            closable=row["closable"],
            prunable=row["prunable"],
        )
        for row in rows
    ]


async def close_books(
    connection: Connection, tenant_id: str, keeping: Keeping, *, facts_max: int
) -> int:
    """Move a tenant's closing entry over its next facts that are old enough; returns how many."""
    async with transaction(connection, "close_books"):
        await queries.open_closing.fetch(connection, tenant_id=tenant_id)
        locked = await queries.lock_closing.fetch_one(connection, tenant_id=tenant_id)
        if locked is None:
            return 0
        row = await queries.closable.fetch_one(
            connection,
            tenant_id=tenant_id,
            after=locked["seq"],
            facts=facts_max,
            run_days=keeping.runs,
        )
        until = locked["seq"] if row is None else row["until"] or locked["seq"]
        if until <= locked["seq"]:
            return 0
        mark = (await closings(connection, [tenant_id])).get(tenant_id, Mark())
        closed: int = until - mark.seq
        if not await move(connection, mark, Window(tenant_id, mark.seq, until, whole=False)):
            return 0
    return closed


async def move(connection: Connection, mark: Mark, window: Window) -> bool:
    """Write the closing entry at the end of the window; it is locked, and the facts stand.

    Not over a ledger that is not whole, which is the auditor's to tell.
    """
    fold = (await add_up(connection, [window]))[window.tenant_id]
    rows = await queries.audit_days.fetch(connection, **bounds([window]))
    closed = auditing.moved(mark, window, fold)
    sums = closed.sums
    if not sums.entries == sums.seqs == sums.top == window.until:
        log.warning("books not closed", tenant_id=window.tenant_id, seq=window.until)
        return False
    row = await queries.write_closing.fetch_one(
        connection,
        tenant_id=window.tenant_id,
        was=mark.seq,
        seq=window.until,
        **{name: getattr(sums, name) for name in ("deposited", "held", "spent", "unresolved")},
        spend_seq=closed.counted.seq,
        spend_day=closed.counted.day,
        day_spend=closed.counted.spending.day_spend,
        month_spend=closed.counted.spending.month_spend,
        allowance_ids=list(fold.counted.used),
        useds=list(fold.counted.used.values()),
        **columns({row["day"]: usage_of(row) for row in rows}),
    )
    assert row is not None, "the closing entry was locked"
    return True


def columns(days: Mapping[date, Usage]) -> dict[str, list[object]]:
    """Return days as the statement takes them."""
    rows = days.values()
    return {
        "days": list(days),
        "runs": [one.runs for one in rows],
        "completed": [one.completed for one in rows],
        "failed": [one.failed for one in rows],
        "costs": [one.cost for one in rows],
        "reserved": [one.reserved for one in rows],
    }


async def prune(
    connection: Connection, tenant_id: str, keeping: Keeping, *, most: int, wait: bool
) -> Pruned | Busy:
    """Let old runs and transfers of a tenant leave; none where somebody else closes or prunes.

    The closing entry is locked first and never waited for, so that nobody waits for it who holds
    the budget.
    """
    lock = queries.lock_budgets if wait else queries.lock_budgets_free
    async with transaction(connection, "prune"):
        if await queries.lock_closing.fetch_one(connection, tenant_id=tenant_id) is None:
            return Pruned(0, 0)
        if await lock.fetch_one(connection, tenant_ids=[tenant_id]) is None:
            return Pruned(0, 0) if wait else Busy()
        row = await queries.prune.fetch_one(
            connection,
            tenant_id=tenant_id,
            run_days=keeping.runs,
            transfer_days=keeping.transfers,
            most=most,
        )
    assert row is not None
    return Pruned(row["runs"], row["moves"])


async def prune_bodies(connection: Connection, tenant_id: str, *, most: int) -> int:
    """Let inputs and results leave that are served no more; returns of how many runs."""
    async with transaction(connection, "prune"):
        await queries.open_closing.fetch(connection, tenant_id=tenant_id)
        if await queries.lock_closing.fetch_one(connection, tenant_id=tenant_id) is None:
            return 0
        row = await queries.prune_bodies.fetch_one(connection, tenant_id=tenant_id, most=most)
    assert row is not None
    bodies: int = row["bodies"]
    return bodies


async def forget_keys(connection: Connection, keeping: Keeping, *, most: int) -> int:
    """Forget keys of runs that left long enough ago; returns how many."""
    async with transaction(connection, "prune"):
        row = await queries.forget_keys.fetch_one(connection, days=keeping.keys, most=most)
    assert row is not None
    keys: int = row["keys"]
    return keys
