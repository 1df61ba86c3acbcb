"""Reads for tenants: each one statement, so each one snapshot; never a replica, never a cache."""

from collections.abc import Sequence
from datetime import date
from uuid import UUID

from dpp.claims import Seen
from dpp.ledger import Budget, Entry
from dpp.listings import EVERYTHING, LOOKED_MAX, RunFilter, RunPage
from dpp.money import Micros
from dpp.receipts import Bought, Receipt, Resolution, Unresolved, receipt_of
from dpp.runs import ErrorCode, Failure, Progress, Run, Status
from dpp.store.connections import Connection
from dpp.store.queries import Query, Row, queries
from dpp.store.transactions import NoPrimary
from dpp.usage import DAYS, DAYS_MAX, Usage, UsageDay
from dpp.watches import Watch


async def ping(connection: Connection) -> None:
    """Raise unless this is a primary: one that was demoted goes on answering, out of date."""
    row = await queries.ping.fetch_one(connection)
    assert row is not None
    if row["read_only"]:
        message = "transactions are read-only"
        raise NoPrimary(message)


async def get_run(connection: Connection, tenant_id: str, run_id: UUID) -> Run | None:
    """Return a run of this tenant."""
    row = await queries.get_run.fetch_one(connection, tenant_id=tenant_id, run_id=run_id)
    return None if row is None else run(row)


async def list_runs(
    connection: Connection, tenant_id: str, *, before: UUID | None, limit: int, matching: RunFilter
) -> RunPage:
    """Return a page of the runs that match, newest first; an idempotency key names one at most."""
    if matching.idempotency_key is not None:
        rows = await queries.find_run_by_key.fetch(
            connection, tenant_id=tenant_id, idempotency_key=matching.idempotency_key
        )
        found = (run(row) for row in rows if before is None or row["run_id"] < before)
        return RunPage(tuple(one for one in found if matching.matches(one)), None)
    looked_max = limit + 1 if matching == EVERYTHING else LOOKED_MAX
    rows = await queries.list_runs.fetch(
        connection,
        tenant_id=tenant_id,
        before=before,
        limit=limit + 1,  # one more tells whether there is a next page
        status=matching.status,
        pack_type=matching.pack_type,
        created_after=matching.created_after,
        created_before=matching.created_before,
        looked_max=looked_max,
    )
    runs = tuple(run(row) for row in rows if row["run_id"] is not None)
    if len(runs) > limit:
        return RunPage(runs[:limit], runs[limit - 1].run_id)
    more = rows[0]["looked"] == looked_max
    return RunPage(runs, rows[0]["last_looked"] if more else None)


async def watched_runs(connection: Connection, watching: Sequence[Watch]) -> tuple[Run, ...]:
    """Return the runs that somebody waits for, as they are."""
    return tuple(run(row) for row in await watched_rows(connection, watching))


async def watched_rows(connection: Connection, watching: Sequence[Watch]) -> list[Row]:
    """Return the rows of these runs that are there and whole, each with the database's time."""
    rows = await queries.watched_runs.fetch(
        connection,
        tenant_ids=[watch.tenant_id for watch in watching],
        run_ids=[watch.run_id for watch in watching],
    )
    return [row for row in rows if is_whole(row)]


async def get_budget(connection: Connection, tenant_id: str) -> Budget:
    """Return the tenant's budget; every tenant has one."""
    row = await queries.get_budget.fetch_one(connection, tenant_id=tenant_id)
    assert row is not None, tenant_id
    return budget(row)


async def list_transfers(
    connection: Connection, tenant_id: str, *, before: int | None, limit: int
) -> list[Entry]:
    """Return a page of the tenant's ledger, newest first."""
    rows = await queries.list_transfers.fetch(
        connection, tenant_id=tenant_id, before=before, limit=limit
    )
    return [entry(row) for row in rows]


async def get_receipt(
    connection: Connection, tenant_id: str, run_id: UUID
) -> Receipt | Unresolved | None:
    """Return a run's receipt, or how far the run is; None = the tenant has no such run."""
    row = await queries.get_receipt.fetch_one(connection, tenant_id=tenant_id, run_id=run_id)
    if row is None:
        return None
    if row["status"] is not None:
        return receipt_of(bought(row), resolution(row))
    if not row["is_live"]:
        raise neither(run_id)
    return Unresolved(Status.PROCESSING if row["is_leased"] else Status.QUEUED)


async def is_closed(connection: Connection, tenant_id: str, seq: int) -> bool:
    """Say whether the closing entry covers this place of the ledger."""
    row = await queries.is_closed.fetch_one(connection, tenant_id=tenant_id, seq=seq)
    assert row is not None
    return bool(row["closed"])


async def is_pruned(connection: Connection, tenant_id: str, run_id: UUID) -> bool:
    """Say whether the tenant had such a run and it is past retention."""
    row = await queries.is_pruned.fetch_one(connection, tenant_id=tenant_id, run_id=run_id)
    assert row is not None
    return bool(row["pruned"])


async def get_usage(
    connection: Connection, tenant_id: str, *, first: date | None, last: date | None
) -> Usage:
    """Return the usage of a period of UTC days; of one that is too long its ends alone."""
    rows = await queries.get_usage.fetch(
        connection, tenant_id=tenant_id, first=first, last=last, days=DAYS, days_max=DAYS_MAX
    )
    days = tuple(usage_day(row) for row in rows if row["day"] is not None)
    return Usage(rows[0]["first"], rows[0]["last"], days)


async def seen_runs(connection: Connection, query: Query, **values: object) -> list[Seen]:
    """Run one of the reaper's scans."""
    rows = await query.fetch(connection, **values)
    return [seen(row) for row in rows]


def seen(row: Row) -> Seen:
    """Read a live row as a scan saw it."""
    return Seen(row["run_id"], row["tenant_id"], row["lease_id"], row["lease_epoch"])


def budget(row: Row) -> Budget:
    """Read a budget."""
    return Budget(
        row["tenant_id"],
        deposited=Micros(row["deposited"]),
        available=Micros(row["available"]),
        held=Micros(row["held"]),
        spent=Micros(row["spent"]),
    )


def bought(row: Row) -> Bought:
    """Read a submission for a receipt."""
    return Bought(
        run_id=row["run_id"],
        tenant_id=row["tenant_id"],
        seq=row["seq"],
        pack_type=row["pack_type"],
        pack_version=row["pack_version"],
        inputs_sha256=row["inputs_sha256"],
        max_cost=Micros(row["max_cost"]),
        policy=row["policy"],
        created_at=row["created_at"],
    )


def resolution(row: Row) -> Resolution:
    """Read an ending for a receipt."""
    return Resolution(
        seq=row["resolution_seq"],
        status=Status(row["status"]),
        cost=Micros(row["cost"]),
        returned=Micros(row["returned"]),
        attempts_spent=row["attempts_spent"],
        result_sha256=row["result_sha256"],
        finished_at=row["finished_at"],
    )


def usage_day(row: Row) -> UsageDay:
    """Read a day of usage."""
    return UsageDay(
        day=row["day"],
        runs=row["runs"],
        completed=row["completed"],
        failed=row["failed"],
        cost=Micros(row["cost"]),
        reserved=Micros(row["reserved"]),
    )


def entry(row: Row) -> Entry:
    """Read a line of the ledger."""
    return Entry(
        seq=row["seq"],
        kind=row["kind"],
        amount=Micros(row["amount"]),
        cost=row["cost"],
        returned=row["returned"],
        run_id=row["run_id"],
        reference=row["reference"],
        reason=row["reason"],
        created_at=row["created_at"],
    )


def neither(run_id: UUID) -> LookupError:
    """Return the error of a run that has no status."""
    return LookupError(f"run {run_id} is neither live nor ended: run `dpp audit`")


def is_whole(row: Row) -> bool:
    """Say whether a run has a status; one that has none must not cost the others of its page."""
    return row["status"] is not None


def run(row: Row) -> Run:
    """Read a run; one that is neither live nor ended is a broken invariant, and raises."""
    if row["status"] is None:
        raise neither(row["run_id"])
    failed = row["error_code"] is not None
    return Run(
        run_id=row["run_id"],
        tenant_id=row["tenant_id"],
        status=Status(row["status"]),
        pack_type=row["pack_type"],
        idempotency_key=row["idempotency_key"],
        attempt=row["attempts_spent"] + 1,
        lease_epoch=row["lease_epoch"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        expires_at=row["expires_at"],
        max_cost=Micros(row["max_cost"]),
        minimum_fee=Micros(row["minimum_fee"]),
        actual_cost=row["actual_cost"],
        policy=row["policy"],
        priority=row["priority"],
        timebox_s=row["timebox_s"],
        cancel_asked=row["cancel_asked"],
        trace_id=row["trace_id"],
        progress=None if row["fraction"] is None else Progress(row["fraction"], row["note"] or ""),
        result=row["result"],
        result_key=row["result_key"],
        result_sha256=row["result_sha256"],
        failure=Failure(ErrorCode(row["error_code"]), row["error_detail"]) if failed else None,
        metadata=None if row["metadata"] is None else row["metadata"].encode(),
        result_expires_at=row["result_expires_at"],
    )
