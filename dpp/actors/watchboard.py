"""The watchboard: where handlers wait for runs without asking the database.

Many may wait for one run, one row is asked for all of them. The follower publishes what it read,
wherever the run ended. What ended on this node just now is remembered for a while, so that a
handler which read the run before and waits after is not left to the next poll.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from uuid import UUID

import trio
from attrs import define, field

from dpp.actors.wake import Wake
from dpp.runs import TERMINAL, Run, Status
from dpp.watches import Watch

WATCHED_MAX = 10_000  # runs: five times the connections that a listener takes
CHANGED_MAX = 4096  # run ids, a second's worth: a handler needs less from its read to its wait


@define(eq=False)
class Watched:
    """A run that is waited for, and by how many."""

    watch: Watch
    waiters: int = 0
    run: Run | None = None
    over: trio.Event = field(factory=trio.Event)


@define(eq=False)
class Watchboard:
    """Implements `dpp.ports.Watching`. `executed_here` says whether a run is in work here."""

    executed_here: Callable[[UUID], bool]
    wake: Wake = field(factory=Wake)
    closed: bool = False
    _watched: dict[UUID, Watched] = field(factory=dict)
    _changed: OrderedDict[UUID, None] = field(factory=OrderedDict)

    async def wait_terminal(self, watch: Watch, seen: Status) -> Run | None:
        """Return the run once it is terminal; None when this node drains, or watches enough."""
        watched = self._watched.get(watch.run_id)
        if watched is None and not self.closed and len(self._watched) < WATCHED_MAX:
            watched = self._watched[watch.run_id] = Watched(watch)
        if watched is None or watched.watch != watch:
            await trio.lowlevel.checkpoint()
            return None
        if seen in TERMINAL or watch.run_id in self._changed:
            self.wake.ring()
        watched.waiters += 1
        try:
            await watched.over.wait()
        finally:
            watched.waiters -= 1
            if watched.waiters == 0 and self._watched.get(watch.run_id) is watched:
                del self._watched[watch.run_id]
        return watched.run

    def hint(self, run_id: UUID) -> None:
        """Hear that something about a run changed; the follower looks, if it concerns this node."""
        self.ended(run_id)
        if self.executed_here(run_id):
            self.wake.ring()

    def ended(self, run_id: UUID) -> None:
        """Hear that a run ended on this node."""
        self._changed[run_id] = None
        if len(self._changed) > CHANGED_MAX:
            self._changed.popitem(last=False)
        if run_id in self._watched:
            self.wake.ring()

    def watching(self) -> list[Watch]:
        """Return the runs to ask for."""
        return [watched.watch for watched in self._watched.values()]

    def publish(self, runs: Iterable[Run]) -> None:
        """Answer who waits for a run that is terminal."""
        for run in runs:
            watched = self._watched.get(run.run_id)
            if watched is not None and run.status in TERMINAL:
                watched.run = run
                watched.over.set()
                del self._watched[run.run_id]

    def close(self) -> None:
        """Answer everybody with None: the node drains."""
        self.closed = True
        for watched in self._watched.values():
            watched.over.set()
        self._watched.clear()
