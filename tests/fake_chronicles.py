"""Chronicles of the fake store: what attempts told, kept and read as PostgreSQL's queries do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from dpp.chronicles import Backlog, Position, State, Told
from dpp.money import Micros
from dpp.watches import Changes, RunEvent, Watch, page_of
from tests.fake_rows import Rows


def store_events(rows: Rows, events: Sequence[RunEvent]) -> None:
    """Keep events of attempts that hold their runs, or whose runs ended under their epochs."""
    for event in events:
        live, ended = rows.live.get(event.fence.run_id), rows.endings.get(event.fence.run_id)
        held = live is not None and live.held_by(event.fence)
        own = ended is not None and ended.ending.lease_epoch == event.fence.lease_epoch
        if held or own:
            place = (event.fence.run_id, event.fence.lease_epoch, event.n)
            rows.events.setdefault(place, event)


def changes(
    rows: Rows, executing: Sequence[UUID], watching: Sequence[Watch], now: datetime
) -> Changes:
    """Return what concerns a node."""
    canceled = sorted(r for r in executing if r in rows.live and rows.live[r].cancel_asked)
    runs = (rows.run(w.tenant_id, w.run_id, now) for w in watching)
    there = sorted((run for run in runs if run is not None), key=lambda run: run.run_id)
    page, told, cut = page_of(watching), list[Told](), set[UUID]()
    for watch in sorted(watching, key=lambda watch: watch.run_id):
        if watch.after is not None:
            some = told_behind(rows, watch.run_id, watch.after)[:page]
            told += some
            cut |= {watch.run_id} if len(some) == page else set()
    return Changes(
        tuple(canceled), tuple(there), tuple(told), frozenset(cut), now if there else None
    )


def backlog(
    rows: Rows, tenant_id: str, run_id: UUID, after: Position, limit: int, now: datetime
) -> Backlog | None:
    """Return a run's state and what was told of it behind a position."""
    run = rows.run(tenant_id, run_id, now)
    if run is None:
        return None
    told = told_behind(rows, run_id, after)
    epoch, n = after.stored
    before = [
        event.amount or 0
        for (of, at, k), event in rows.events.items()
        if (of, at) == (run_id, epoch) and k <= n
    ]
    return Backlog(
        state=State.of(run),
        told=tuple(told[:limit]),
        cut=len(told) > limit,
        charged=Micros(sum(before)),
        now=now,
    )


def told_behind(rows: Rows, run_id: UUID, after: Position) -> list[Told]:
    """Return what was told of a run behind a position, in order."""
    return [
        Told(run_id, epoch, n, event.kind, event.fraction, event.note, event.amount)
        for (of, epoch, n), event in sorted(rows.events.items(), key=lambda item: item[0][1:])
        if of == run_id and (epoch, n) > after.stored
    ]
