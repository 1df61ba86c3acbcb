"""The follower's verb: events out; cancels, watched runs and their events in; at most a second."""

from collections.abc import Sequence
from uuid import UUID

from dpp.store import chronicles, reads
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
    """Store events of attempts that hold their runs, or ended them; return what concerns this node.

    Asked again, nothing doubles. Events are stored before runs are read, and read after them: a run
    that is seen to have ended is seen with what this node knew of its attempt.
    """
    async with transaction(connection, begin=BEGIN_BOUNDED):
        if events:
            await store_events(connection, events)
        canceled = (
            await queries.canceled_runs.fetch(connection, run_ids=list(executing))
            if executing
            else []
        )
        rows = await reads.watched_rows(connection, watching) if watching else []
        told, cut = await chronicles.told_since(connection, watching)
    return Changes(
        canceled=tuple(row["run_id"] for row in canceled),
        runs=tuple(reads.run(row) for row in rows),
        told=told,
        cut=cut,
        now=rows[0]["now"] if rows else None,
    )


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
