"""What can go wrong with the fake store, on demand: every verb passes through `Faults.run`.

A call may fail before or after it took effect, hang, or wait for a budget that somebody holds. As
with the real store, a verb that was handed over runs to its end: a cancelled caller abandons the
wait and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar
from uuid import UUID

import trio
from attrs import define, field, frozen

from dpp.faults import StoreUnavailable

T = TypeVar("T")

LOCK_S = 8.0  # what a waiting batch bears of a held budget: four tries of a lock limit of 2 s
WALL_S = 12.0  # after which a call that got no answer is given up


@frozen
class Fault:
    """What happens to one call. `error` is raised before or, with `after`, once it took effect."""

    error: Exception | None = None
    after: bool = False
    before_s: float = 0.0  # until it takes effect
    after_s: float = 0.0  # from then until it is answered; inf = never


FINE = Fault()


@define(eq=False)
class Faults:
    """The plan of what goes wrong, and the log of what was asked.

    `down`: every call is refused. `silent`: none is answered, and each is given up. `poisoned`:
    runs that no batch can hold, as if the database refused their rows.
    """

    calls: list[str] = field(factory=list)
    down: bool = False
    silent: bool = False
    _of_call: dict[int, Fault] = field(factory=dict)
    _of_verb: dict[tuple[str, int], Fault] = field(factory=dict)
    _asked: Counter[str] = field(factory=Counter)
    poisoned: set[UUID] = field(factory=set)
    _held: set[str] = field(factory=set)
    _released: trio.Event | None = None

    def fail_call(self, n: int, fault: Fault) -> None:
        """Have the n-th call of all that are made, counted from 1, meet `fault`."""
        self._of_call[n] = fault

    def fail(self, verb: str, fault: Fault, *, nth: int = 1) -> None:
        """Have the n-th call of `verb` from now on meet `fault`."""
        self._of_verb[verb, self._asked[verb] + nth] = fault

    def calm(self) -> None:
        """Forget what was planned."""
        self._of_call.clear()
        self._of_verb.clear()
        self.down = self.silent = False

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Refuse every call meanwhile; nothing takes effect."""
        self.down = True
        yield
        self.down = False

    def hold(self, tenant_id: str) -> None:
        """Keep the tenant's budget row locked."""
        self._held.add(tenant_id)

    def release(self, tenant_id: str) -> None:
        """Let the tenant's budget row go."""
        self._held.discard(tenant_id)
        if self._released is not None:
            self._released.set()
            self._released = None

    def holds(self, tenant_id: str) -> bool:
        return tenant_id in self._held

    async def run(
        self,
        verb: str,
        body: Callable[[], T],
        *,
        runs: Iterable[UUID] = (),
        waits_for: Iterable[str] = (),
    ) -> T:
        """Do one verb on these runs, as planned; it waits for the budgets of `waits_for`."""
        fault, tenants = self._next(verb), frozenset(waits_for)
        if not self.poisoned.isdisjoint(runs):
            fault = Fault(RuntimeError("refused by a constraint"))
        slow = fault.before_s or fault.after_s or tenants & self._held
        if not slow:
            await trio.lowlevel.checkpoint()
            if not tenants & self._held:  # nobody took them meanwhile
                return effect(fault, body)
        handed = Handed(body, fault)
        trio.lowlevel.spawn_system_task(self._finish, handed, tenants)
        await handed.answered.wait()
        return handed.result()

    def _next(self, verb: str) -> Fault:
        self.calls.append(verb)
        self._asked[verb] += 1
        planned = self._of_verb.get((verb, self._asked[verb])) or self._of_call.get(len(self.calls))
        if planned is not None:
            return planned
        if self.silent:
            return Fault(StoreUnavailable("no answer"), before_s=WALL_S)
        return Fault(StoreUnavailable("down")) if self.down else FINE

    async def _finish(self, handed: Handed[T], tenants: frozenset[str]) -> None:
        await trio.sleep(handed.fault.before_s)
        with trio.move_on_after(LOCK_S):
            await self._until_free(tenants)
        handed.take_effect(locked=not tenants & self._held)
        await trio.sleep(handed.fault.after_s)
        handed.answered.set()

    async def _until_free(self, tenants: frozenset[str]) -> None:
        await trio.lowlevel.checkpoint()
        while tenants & self._held:
            if self._released is None:
                self._released = trio.Event()
            await self._released.wait()


def effect(fault: Fault, body: Callable[[], T]) -> T:
    """Do it, or fail before or after."""
    if fault.error is not None and not fault.after:
        raise fault.error
    answer = body()
    if fault.error is not None:
        raise fault.error
    return answer


class Handed(Generic[T]):
    """A call on its way: it takes effect and is answered, whether or not anyone waits."""

    def __init__(self, body: Callable[[], T], fault: Fault) -> None:
        self.body, self.fault, self.answered = body, fault, trio.Event()
        self._answer: list[T] = []
        self._error: Exception = StoreUnavailable("lock timeout")

    def take_effect(self, *, locked: bool) -> None:
        if locked:
            try:
                self._answer = [effect(self.fault, self.body)]
            except Exception as error:  # noqa: BLE001 - raised in who waits
                self._error = error

    def result(self) -> T:
        if self._answer:
            return self._answer[0]
        raise self._error
