"""Chronicles: what is stored of runs behind a position, for streams of their events."""

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from dpp.chronicles import Backlog, Position, State, Told
from dpp.money import Micros
from dpp.runs import ErrorCode, Failure, Status
from dpp.store import reads
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.watches import Watch, page_of


async def read_chronicle(
    connection: Connection, tenant_id: str, run_id: UUID, *, after: Position, limit: int
) -> Backlog | None:
    """Return a run's state and what was told of it behind `after`; None = no such run."""
    epoch, n = after.stored
    rows = await queries.read_chronicle.fetch(
        connection, tenant_id=tenant_id, run_id=run_id, epoch=epoch, n=n, page=limit + 1
    )
    if not rows:
        return None
    told = tuple(row_told(row) for row in rows if row["n"] is not None)
    return Backlog(
        state=state(rows[0]),
        told=told[:limit],
        cut=len(told) > limit,
        charged=Micros(rows[0]["charged"]),
        now=rows[0]["now"],
    )


async def told_since(
    connection: Connection, watching: Sequence[Watch]
) -> tuple[tuple[Told, ...], frozenset[UUID]]:
    """Return what was told of streamed runs, a page of each, and the runs that have more."""
    streamed = [(watch.run_id, watch.after.stored) for watch in watching if watch.after]
    if not streamed:
        return (), frozenset()
    page = page_of(watching)
    rows = await queries.told_events.fetch(
        connection,
        run_ids=[run_id for run_id, _ in streamed],
        epochs=[epoch for _, (epoch, _) in streamed],
        ns=[n for _, (_, n) in streamed],
        page=page,
    )
    told = tuple(row_told(row) for row in rows)
    # A page that is full may be all there is: the next question tells.
    counts = Counter(one.run_id for one in told)
    return told, frozenset(run_id for run_id, count in counts.items() if count == page)


def row_told(row: Row) -> Told:
    """Read a row of `run_events`."""
    return Told(
        run_id=row["run_id"],
        epoch=row["lease_epoch"],
        n=row["n"],
        kind=row["kind"],
        fraction=row["fraction"],
        note=row["note"],
        amount=None if row["amount"] is None else Micros(row["amount"]),
    )


def state(row: Row) -> State:
    """Read how a run stands."""
    if row["status"] is None:
        raise reads.neither(row["run_id"])
    failed = row["error_code"] is not None
    return State(
        run_id=row["run_id"],
        tenant_id=row["tenant_id"],
        status=Status(row["status"]),
        epoch=row["epoch_now"],
        attempt=row["attempts_spent"] + 1,
        cost=None if row["actual_cost"] is None else Micros(row["actual_cost"]),
        failure=Failure(ErrorCode(row["error_code"]), row["error_detail"]) if failed else None,
        finished_at=row["finished_at"],
    )
