"""The follower's verb: events out, cancels and watched runs in; at most a second."""

from collections.abc import Sequence
from uuid import UUID

from dpp.store import reads
from dpp.store.connections import Connection
from dpp.store.queries import queries
from dpp.store.transactions import BEGIN, transaction
from dpp.watches import Changes, RunEvent, Watch

BEGIN_BOUNDED = (
    BEGIN + "; set local statement_timeout = '1s'"
)  # a renewal waits for the same connection


async def follow(
    connection: Connection,
    executing: Sequence[UUID],
    watching: Sequence[Watch],
    events: Sequence[RunEvent],
) -> Changes:
    """Store events of attempts that hold their runs; return cancels and watched runs.

    Asked again, nothing doubles.
    """
    async with transaction(connection, begin=BEGIN_BOUNDED):
        if events:
            await store_events(connection, events)
        canceled = (
            await queries.canceled_runs.fetch(connection, run_ids=list(executing))
            if executing
            else []
        )
        runs = await reads.watched_runs(connection, watching) if watching else ()
    return Changes(tuple(row["run_id"] for row in canceled), runs)


async def store_events(connection: Connection, events: Sequence[RunEvent]) -> None:
    """Insert events under their fences."""
    await queries.store_events.fetch(
        connection,
        run_ids=[event.fence.run_id for event in events],
        lease_ids=[event.fence.lease_id for event in events],
        lease_epochs=[event.fence.lease_epoch for event in events],
        ns=[event.n for event in events],
        kinds=[event.kind for event in events],
        fractions=[event.fraction for event in events],
        notes=[event.note for event in events],
        amounts=[event.amount for event in events],
    )
