"""What a pack is given: who it runs for, what it may spend, how long it has, how to tell.

`Ctx` belongs to one attempt and knows no store: a charge moves a number in memory, and the
executor settles the total when the attempt ends. What always holds: `0 <= charged <= ceiling`,
and a charge that raises has charged nothing. All of it is called on the trio thread; work for the
processor goes through `in_thread`.

A pack ends in one of five ways: it returns (COMPLETED), raises `PackRefused` or anything that is
not named here (FAILED, the tenant pays what was charged), meets its `CostCeilingReached` (the
same), raises `InfrastructureFault` (tried again, free), or is cancelled.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

import trio
from attrs import define, field

from dpp.money import Micros
from dpp.packs.events import Outbox, RunEvent, one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

Answer = TypeVar("Answer")
Args = TypeVarTuple("Args")

# Packs in pure Python share one interpreter with the trio thread, which waits up to a switch
# interval for each of them. More threads would not compute more, only delay everything else.
THREADS_MAX = 4

_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("pack threads")


class PackRefused(Exception):
    """The pack refuses this run: FAILED with `pack_refused`, the tenant pays what was charged."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InfrastructureFault(Exception):
    """Something that is not the tenant's doing failed: the run is tried again, free."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class CostCeilingReached(Exception):
    """The charge does not fit into what was reserved; nothing was charged."""

    def __init__(self, amount: Micros, charged: Micros, ceiling: Micros) -> None:
        super().__init__(f"a charge of {amount} on top of {charged} exceeds {ceiling} micros")
        self.amount, self.charged, self.ceiling = amount, charged, ceiling


@define(eq=False, kw_only=True)
class Ctx:
    """One attempt, as its pack sees it.

    `deadline` is on trio's clock. `cancelled` is set when a cancel is felt; one second later the
    pack is cancelled in earnest, so a pack that can stop early returns or raises until then.
    """

    run_id: UUID
    tenant_id: str
    attempt: int
    ceiling: Micros
    deadline: float
    cancelled: trio.Event = field(factory=trio.Event)
    _charged: Micros = field(default=Micros(0), init=False)
    _outbox: Outbox = field(factory=Outbox, init=False)

    @property
    def charged(self) -> Micros:
        """What this attempt has charged so far."""
        return self._charged

    async def charge(self, amount: Micros, reason: str) -> None:
        """Charge `amount`, or raise and charge nothing. A checkpoint, and no other wait.

        A cancel is raised before the charge, never after it.
        """
        await trio.lowlevel.checkpoint()
        _check_amount(amount, reason)
        if self._charged + amount > self.ceiling:
            raise CostCeilingReached(amount, self._charged, self.ceiling)
        self._charged = Micros(self._charged + amount)
        if amount:
            self._outbox.charge(amount, one_line(reason))

    def progress(self, fraction: float, note: str = "") -> None:
        """Tell how far the run is: 0 to 1, what lies beyond is cut. Never waits."""
        if isinstance(fraction, bool) or not isinstance(fraction, int | float):
            raise TypeError(f"progress takes a number from 0 to 1, not {type(fraction).__name__}")
        if math.isnan(fraction):
            raise ValueError("progress takes a number from 0 to 1, not NaN")
        self._outbox.progress(float(min(max(fraction, 0), 1)), one_line(note))

    def remaining_s(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.deadline - trio.current_time())

    async def in_thread(self, fn: Callable[[*Args], Answer], *args: *Args) -> Answer:
        """Call `fn(*args)` on a worker thread. A cancel leaves the thread behind, to end by itself.

        So `fn` is bounded work that touches nothing shared; a longer analysis goes in steps.
        """
        return await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=True, limiter=_threads())

    @property
    def has_events(self) -> bool:
        """Say whether there is something to take. For the follower."""
        return len(self._outbox) > 0

    def drain_events(self) -> list[RunEvent]:
        """Take what was charged and told since the last call. For the follower."""
        return self._outbox.drain()


def _check_amount(amount: object, reason: object) -> None:
    """Anything but whole micro-dollars is a bug of the pack: it must not settle as money."""
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise TypeError(f"charge takes whole micro-dollars, not {type(amount).__name__}")
    if amount < 0:
        raise ValueError(f"charge takes an amount of at least 0, not {amount}")
    if not isinstance(reason, str) or not reason:
        raise TypeError("charge takes a reason: a text that the tenant will read")


def _threads() -> trio.CapacityLimiter:
    """Return the limiter of this trio run: packs have their own, so that they starve nobody."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(THREADS_MAX)
        _limiter.set(limiter)
        return limiter
