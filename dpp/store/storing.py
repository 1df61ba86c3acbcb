"""Runs whose result goes to the blob store: the mark, what was left with it, and what must stay."""

import random
from collections.abc import Sequence
from uuid import UUID

from dpp.blobs import Attempt, BlobKey, Pointer
from dpp.claims import LeftStoring
from dpp.leases import Fence
from dpp.metrics import zombie_writes_refused_total
from dpp.money import Micros
from dpp.store import reads
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import transaction


async def mark(connection: Connection, fence: Fence) -> bool:
    """Make the run the reconciler's; False = the attempt was lost. Asked again it says the same."""
    async with transaction(connection, "mark_storing"):
        row = await queries.mark_storing.fetch_one(
            connection,
            run_id=fence.run_id,
            lease_id=fence.lease_id,
            lease_epoch=fence.lease_epoch,
        )
    if row is None:  # counted here: whoever asked has lost its tenure, and waits no more
        zombie_writes_refused_total.labels("mark_storing").inc()
    return row is not None


async def left(
    connection: Connection, after: UUID | None, limit: int, grace_s: float
) -> list[LeftStoring]:
    """Return one page of runs that were left storing."""
    rows = await queries.storing_runs.fetch(connection, after=after, limit=limit, grace_s=grace_s)
    return [
        LeftStoring(
            seen=reads.seen(row),
            max_cost=Micros(row["max_cost"]),
            created_at=row["created_at"],
        )
        for row in rows
    ]


async def kept_objects(connection: Connection, attempts: Sequence[Attempt]) -> frozenset[Attempt]:
    """Return those of these attempts whose objects an ending or a live row still needs."""
    rows = await queries.kept_objects.fetch(
        connection,
        run_ids=[attempt.run_id for attempt in attempts],
        lease_epochs=[attempt.lease_epoch for attempt in attempts],
    )
    return frozenset(Attempt(row["run_id"], row["lease_epoch"]) for row in rows)


async def sample(connection: Connection, limit: int) -> list[Pointer]:
    """Return where some large results must lie: those that follow a random moment, then the first.

    Run ids begin with the time, so a number between the first and the last is such a moment.
    """
    span = await queries.large_results_span.fetch_one(connection)
    if span is None:
        return []
    moment = UUID(int=random.randint(span["first"].int, span["last"].int))  # noqa: S311  # no secret
    later = await queries.large_results.fetch(connection, first=moment, limit=limit)
    left = limit - len(later)
    first = await queries.large_results.fetch(connection, first=span["first"], limit=left)
    return [pointer(row) for row in {row["run_id"]: row for row in (*later, *first)}.values()]


def pointer(row: Row) -> Pointer:
    """Read what an ending says of its object."""
    attempt = Attempt(row["run_id"], row["lease_epoch"])
    key = BlobKey.of(row["tenant_id"], row["created_at"], attempt)
    return Pointer(key=key, name=row["result_key"], sha256=row["result_sha256"])


async def store_id(connection: Connection, name: str) -> UUID | None:
    """Return the id of a store; None before its first use."""
    row = await queries.store_id.fetch_one(connection, name=name)
    return None if row is None else row["store_id"]


async def keep_store_id(connection: Connection, name: str, store_id: UUID) -> UUID:
    """Keep an id, if there is none; returns the one that is kept."""
    async with transaction(connection):
        await queries.keep_store_id.fetch(connection, name=name, store_id=store_id)
        row = await queries.store_id.fetch_one(connection, name=name)
    assert row is not None
    kept: UUID = row["store_id"]
    return kept
