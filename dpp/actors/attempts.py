"""The attempts in work here: what tenure, claimer, executor and follower share, and all they share.

Sync code alone changes it, so whoever reads it between two awaits sees it whole. An attempt is in
it from the moment its claim was answered until its end was, or its tenure is over. What it told and
nobody has taken by then stays behind, until the follower takes it.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from uuid import UUID

import trio
from attrs import define, field, frozen

from dpp.claims import Claimed
from dpp.leases import Fence
from dpp.packs.ctx import Ctx
from dpp.packs.events import RunEvent

CANCEL_S = 1.0  # between the cancel that a pack may heed and the one that it must
# Outboxes of attempts that are over, a second's worth of short runs: the follower takes them twice
# a second. While it cannot, the oldest go: they are words, not money.
LEFT_MAX = 4096


@define(eq=False)
class Attempt:
    """One execution of a run: what was claimed, what its pack is given, the scope of its time."""

    claimed: Claimed
    ctx: Ctx
    scope: trio.CancelScope
    asked_at: float  # from before its claim was asked

    @classmethod
    def of(cls, claimed: Claimed, asked_at: float) -> "Attempt":
        """Make an attempt whose time box counts from before its claim was asked."""
        deadline = asked_at + claimed.timebox_s
        ctx = Ctx(
            run_id=claimed.fence.run_id,
            tenant_id=claimed.tenant_id,
            attempt=claimed.attempt,
            ceiling=claimed.max_cost,
            deadline=deadline,
        )
        return cls(claimed, ctx, trio.CancelScope(deadline=deadline), asked_at)

    @property
    def fence(self) -> Fence:
        return self.claimed.fence

    def cancel(self) -> None:
        """Let the pack feel a cancel now, and end it a little later, once."""
        if not self.ctx.cancelled.is_set():
            self.ctx.cancelled.set()
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + CANCEL_S)


@frozen
class Outbox:
    """What an attempt told that nobody has taken yet, and under which fence."""

    fence: Fence
    tenant_id: str
    events: list[RunEvent]


@define(eq=False)
class Attempts:
    """A registry by fence: a run that was taken back may be here twice, under two epochs.

    `freed` hears of the tenant of each attempt that leaves. `forsaken`: attempts that the database
    knew and this node did not, which are handed back; nobody may start them here any more.
    """

    freed: Callable[[str], None] = lambda _: None
    forsaken: set[Fence] = field(factory=set, init=False)
    _by_fence: dict[Fence, Attempt] = field(factory=dict, init=False)
    _runs: Counter[UUID] = field(factory=Counter, init=False)  # how many attempts of each are here
    _left: deque[Outbox] = field(factory=partial(deque, maxlen=LEFT_MAX), init=False)

    def __len__(self) -> int:
        return len(self._by_fence)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(tuple(self._by_fence.values()))

    def __contains__(self, fence: Fence) -> bool:
        return fence in self._by_fence

    def add(self, attempt: Attempt) -> None:
        """Take an attempt in."""
        assert attempt.fence not in self._by_fence
        assert attempt.fence not in self.forsaken
        self._by_fence[attempt.fence] = attempt
        self._runs[attempt.fence.run_id] += 1

    def remove(self, attempt: Attempt) -> None:
        """Let an attempt go, and keep what it told last."""
        del self._by_fence[attempt.fence]
        self._runs[attempt.fence.run_id] -= 1
        if not self._runs[attempt.fence.run_id]:
            del self._runs[attempt.fence.run_id]
        if attempt.ctx.has_events:
            self._left.append(outbox(attempt))
        self.freed(attempt.claimed.tenant_id)

    def fences(self) -> frozenset[Fence]:
        """Return the fences of now: what is asked later is compared with them."""
        return frozenset(self._by_fence)

    def run_ids(self) -> list[UUID]:
        """Return the runs that are executed here."""
        return [fence.run_id for fence in self._by_fence]

    def executes(self, run_id: UUID) -> bool:
        """Say whether a run is executed here."""
        return run_id in self._runs

    def outboxes(self) -> Iterator[Outbox]:
        """Empty one outbox after the other, those of attempts that are over first."""
        while self._left:
            yield self._left.popleft()
        for attempt in self:
            if attempt.ctx.has_events:
                yield outbox(attempt)

    def untold(self) -> frozenset[UUID]:
        """Return the runs of which something was told here that nobody has taken."""
        here = (attempt.fence for attempt in self._by_fence.values() if attempt.ctx.has_events)
        return frozenset(fence.run_id for fence in (*here, *(one.fence for one in self._left)))

    def forsake(self, fences: Iterable[Fence]) -> None:
        """Give up attempts that are not here, for good."""
        self.forsaken.update(fences)

    def cancel(self, run_ids: Iterable[UUID]) -> None:
        """Cancel what is executed here of these runs."""
        asked = set(run_ids)
        for attempt in self._by_fence.values():
            if attempt.fence.run_id in asked:
                attempt.cancel()


def outbox(attempt: Attempt) -> Outbox:
    """Take what an attempt has told."""
    return Outbox(attempt.fence, attempt.claimed.tenant_id, attempt.ctx.drain_events())
