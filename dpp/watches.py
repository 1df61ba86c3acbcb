"""Watches: what a node hears of its runs, and what it tells, in one look at the database."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from attrs import frozen

from dpp.chronicles import Position, Told
from dpp.leases import Fence
from dpp.money import Micros
from dpp.runs import Run

TOLD_MAX = 2000  # events that a question brings in: half a megabyte, some milliseconds
PAGE_MAX = 100  # of them of one run: a stream's buffer holds more than two pages


@frozen(kw_only=True)
class RunEvent:
    """Progress or a charge, numbered by its attempt.

    It is kept while the attempt holds its run, and once the run has ended under its epoch.
    """

    fence: Fence
    tenant_id: str
    n: int
    kind: str
    fraction: float | None = None
    note: str | None = None
    amount: Micros | None = None


@frozen
class Watch:
    """A run that somebody waits for; with `after`, also what its attempts tell behind there."""

    tenant_id: str
    run_id: UUID
    after: Position | None = None


@frozen
class Changes:
    """`canceled`: executed here, and a cancel was asked.

    `runs`: every watched run that is still there, as it is. `told`: what attempts of these told
    since, by run and in order, read after the runs; of the runs in `cut` there is more. `now`: the
    database's time, where a run was watched.
    """

    canceled: tuple[UUID, ...]
    runs: tuple[Run, ...]
    told: tuple[Told, ...] = ()
    cut: frozenset[UUID] = frozenset()
    now: datetime | None = None


def page_of(watching: Sequence[Watch]) -> int:
    """Return how many events of one run a question brings: fewer where more runs are streamed."""
    streamed = sum(watch.after is not None for watch in watching)
    return max(1, min(PAGE_MAX, TOLD_MAX // max(1, streamed)))
