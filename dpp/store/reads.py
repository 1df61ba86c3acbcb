"""Reads for tenants: each one statement, so each one snapshot; never a replica, never a cache."""

from collections.abc import Sequence
from uuid import UUID

from dpp.claims import Seen
from dpp.keys import Key
from dpp.ledger import Budget, Entry
from dpp.money import Micros
from dpp.runs import ErrorCode, Failure, Progress, Run, Status
from dpp.store.connections import Connection
from dpp.store.queries import Query, Row, queries
from dpp.watches import Watch


async def get_run(connection: Connection, tenant_id: str, run_id: UUID) -> Run | None:
    """Return a run of this tenant."""
    row = await queries.get_run.fetch_one(connection, tenant_id=tenant_id, run_id=run_id)
    return None if row is None else run(row)


async def list_runs(
    connection: Connection,
    tenant_id: str,
    *,
    before: UUID | None,
    limit: int,
    idempotency_key: str | None,
) -> list[Run]:
    """Return a page of runs, newest first; or the run of one idempotency key."""
    if idempotency_key is not None:
        rows = await queries.find_run_by_key.fetch(
            connection, tenant_id=tenant_id, idempotency_key=idempotency_key
        )
        return [run(row) for row in rows if before is None or row["run_id"] < before]
    rows = await queries.list_runs.fetch(
        connection, tenant_id=tenant_id, before=before, limit=limit
    )
    return [run(row) for row in rows]


async def watched_runs(connection: Connection, watching: Sequence[Watch]) -> tuple[Run, ...]:
    """Return the runs that somebody waits for, as they are."""
    rows = await queries.watched_runs.fetch(
        connection,
        tenant_ids=[watch.tenant_id for watch in watching],
        run_ids=[watch.run_id for watch in watching],
    )
    return tuple(run(row) for row in rows if is_whole(row))


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


async def find_key(connection: Connection, key_id: str) -> Key | None:
    """Return a key with its tenant's plan."""
    row = await queries.find_key.fetch_one(connection, key_id=key_id)
    return None if row is None else key(row)


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


def key(row: Row) -> Key:
    """Read a key."""
    return Key(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        secret_sha256=row["secret_sha256"],
        scopes=tuple(row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        expires_in_s=row["expires_in_s"],
        revoked=row["revoked"],
        plan=row["plan"],
        suspended=row["suspended"],
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


def is_whole(row: Row) -> bool:
    """Say whether a run has a status; one that has none must not cost the others of its page."""
    return row["status"] is not None


def run(row: Row) -> Run:
    """Read a run; one that is neither live nor ended is a broken invariant, and raises."""
    if row["status"] is None:
        message = f"run {row['run_id']} is neither live nor ended: run `dpp audit`"
        raise LookupError(message)
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
    )
