"""Supervision: ride out outages, restart after bugs, give up when it does not help.

An outage (`StoreUnavailable`) is waited out for as long as it lasts and never counts. A bug is
logged, counted, and the actor restarted, at most `RESTARTS_MAX` times in `RESTART_WINDOW_S`; past
that it gives up, which asks for an orderly drain: what is wrong with one role must cost no run.
Nothing is remembered for an actor; PostgreSQL remembers.
"""

import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import trio
from attrs import define, field

from dpp.faults import StoreUnavailable, told
from dpp.logs import get_logger
from dpp.metrics import actor_restarts_total
from dpp.turns import turned

RESTARTS_MAX = 5  # what Erlang's supervisors and Oban use: more would hide a bug, fewer a hiccup
RESTART_WINDOW_S = 30.0
PAUSE_S_MIN = 0.05  # a lost connection is back at once, or not for a while
PAUSE_S_MAX = 1.0  # the first submit is to succeed within 2 s of the store's return

Actor: TypeAlias = Callable[[], Awaitable[None]]
GiveUp: TypeAlias = Callable[[BaseException], None]

log = get_logger(__name__)


@define(eq=False)
class Stopping:
    """Whether this node drains, and the bug that made it; for signal handlers and `give_up`."""

    draining: trio.Event = field(factory=trio.Event)
    hurrying: trio.Event = field(factory=trio.Event)  # runs get no more time; all else in order
    bug: BaseException | None = None

    def begin(self, reason: str) -> None:
        """Ask for the drain. Asked again, nothing changes."""
        if not self.draining.is_set():
            log.info("draining", reason=reason)
            self.draining.set()

    def after(self, bug: BaseException) -> None:
        """Ask for the drain because an actor gave up; the first bug is the one to exit with."""
        if self.bug is None:
            self.bug = bug
        self.begin("an actor gave up")


@define
class Patience:
    """How often an actor may still crash, and how long to wait before it starts again."""

    crashed_at: deque[float] = field(factory=lambda: deque(maxlen=RESTARTS_MAX + 1))
    pause_s: float = PAUSE_S_MIN

    def used_up(self, now: float) -> bool:
        """Count a crash; say whether it was one too many."""
        self.crashed_at.append(now)
        too_many = len(self.crashed_at) > RESTARTS_MAX
        return too_many and now - self.crashed_at[0] < RESTART_WINDOW_S

    def next_pause_s(self, lived_s: float) -> float:
        """Return a jittered pause, twice the last one; after a good while it is a new trouble."""
        if lived_s > PAUSE_S_MAX:
            self.pause_s = PAUSE_S_MIN
        pause_s, self.pause_s = self.pause_s, min(2 * self.pause_s, PAUSE_S_MAX)
        return pause_s * random.uniform(0.5, 1.0)


async def supervise(name: str, actor: Actor, give_up: GiveUp | None = None) -> None:
    """Run `actor` until it returns. Without `give_up` its last bug is raised.

    The name stands in logs and metrics.
    """
    patience = Patience()
    while True:
        turned(name)
        started_at = trio.current_time()
        bug: BaseException | None = None
        try:
            await actor()
        except* StoreUnavailable as outage:  # except*: it may come out of a nursery
            log.warning("store unavailable", actor=name, detail=first_words(outage))
        except* Exception as group:
            bug = group
            log.error("actor crashed", actor=name, exc_info=group)  # noqa: TRY400 - an odd group
            actor_restarts_total.labels(name).inc()
        else:
            return
        now = trio.current_time()
        if bug is not None and patience.used_up(now):
            log.critical("actor gave up", actor=name, restarts=RESTARTS_MAX)
            if give_up is None:
                raise bug
            give_up(bug)
            await trio.lowlevel.checkpoint()
            return
        await trio.sleep(patience.next_pause_s(now - started_at))


def first_words(group: BaseExceptionGroup[BaseException]) -> str:
    """Return what the first exception in a group says."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return told(error)
