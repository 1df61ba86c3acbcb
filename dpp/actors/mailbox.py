"""Mailboxes: bounded channels of calls, drained whole by the actor behind them.

Who asks waits for an answer and gets one: the actor's, a bug's exception, or `StoreUnavailable`
where the call was dropped, which is safe to ask again. What came while the last batch committed is
the next one, with what comes while others are just asking. Closing a mailbox ends its actor after
the last batch.

It is on the way of every run, so a call is a few attributes and a task that waits for many calls is
woken once, by the last answer.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar, cast

import outcome
import trio
from trio.lowlevel import Abort, ParkingLot

from dpp.actors.batches import Refusals
from dpp.faults import StoreUnavailable, Unanswered

# Turns of the loop without a call after which nobody is about to ask: a request that was read takes
# two or three to come here. A turn of an idle loop costs some 20 us.
QUIET_TURNS = 3
GATHER_S = 0.01  # at the most: a few commits' time, for a batch that would otherwise be several

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Waiter:
    """One task that waits for the answers to `left` calls."""

    __slots__ = ("_task", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self._task: trio.lowlevel.Task | None = None

    def answered(self) -> None:
        """Count one answer; the last one wakes the task."""
        self.left -= 1
        if self.left == 0 and self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    def end(self) -> None:
        """Raise `Unanswered` in the task, if it waits; the calls stay where they are."""
        if self._task is not None:
            trio.lowlevel.reschedule(self._task, outcome.Error(Unanswered("not answered in time")))
            self._task = None

    async def wait(self) -> None:
        """Return once all are answered. A cancelled wait leaves the calls where they are."""
        if self.left == 0:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _: object) -> Abort:
        self._task = None
        return Abort.SUCCEEDED


class Call(Generic[Request, Answer]):
    """A request and, sooner or later, its one answer."""

    __slots__ = ("_answer", "_fault", "_waiter", "request")

    def __init__(self, request: Request, waiter: Waiter) -> None:
        self.request = request
        self._answer: Answer | None = None
        self._fault: Exception | None = None
        self._waiter: Waiter | None = waiter  # None = answered

    @property
    def answered(self) -> bool:
        return self._waiter is None

    def answer(self, answer: Answer) -> None:
        """Answer a call that has no answer yet."""
        assert self._waiter is not None, "a call has one answer"
        self._answer = answer
        self._waiter.answered()
        self._waiter = None

    def fail(self, fault: Exception) -> None:
        """Raise `fault` in the asker; nothing where it has its answer."""
        if self._waiter is not None:
            self._fault = fault
            self._waiter.answered()
            self._waiter = None

    def drop(self) -> None:
        """Give the call up: `StoreUnavailable` in the asker; nothing where it has its answer."""
        if self._waiter is not None:
            self.fail(StoreUnavailable("dropped: ask again"))

    def result(self) -> Answer:
        """Return the answer, or raise the fault."""
        assert self._waiter is None, "not answered yet"
        if self._fault is not None:
            raise self._fault
        return cast("Answer", self._answer)


def weightless(_: object) -> int:
    """Weigh a request whose size does not matter."""
    return 0


class Mailbox(Generic[Request, Answer]):
    """A bounded queue of calls. `refusals`: what its lane met; it outlives the lane's crashes."""

    def __init__(self, capacity: int, weigh: Callable[[Request], int] = weightless) -> None:
        """`weigh`: the bytes of a request, for whoever takes no more than a batch can carry."""
        assert capacity > 0
        self.capacity = capacity
        self.weigh = weigh
        self.closed = False
        self.refusals = Refusals()
        self._calls: deque[Call[Request, Answer]] = deque()
        self._takers = ParkingLot()
        self._askers = ParkingLot()

    def __len__(self) -> int:
        return len(self._calls)

    async def ask(self, request: Request) -> Answer:
        """Wait for a place, then for the answer; raises `StoreUnavailable` if closed or dropped."""
        while len(self._calls) >= self.capacity and not self.closed:
            await self._askers.park()
        return await self.ask_nowait(request)

    async def ask_nowait(self, request: Request, waiter: Waiter | None = None) -> Answer:
        """Wait for the answer, not for a place: `StoreUnavailable` if full, closed or dropped.

        `waiter`: one for a single call, for who ends waits; raises `Unanswered` then.
        """
        waiter = Waiter(1) if waiter is None else waiter
        call: Call[Request, Answer] = Call(request, waiter)
        self.put([call])
        await waiter.wait()
        return call.result()

    async def ask_all_nowait(self, requests: Iterable[Request]) -> list[Call[Request, Answer]]:
        """Return answered calls, after one wait for all; those without a place were dropped."""
        waiter = Waiter(0)
        calls: list[Call[Request, Answer]] = [Call(request, waiter) for request in requests]
        waiter.left = len(calls)
        self.put(calls)
        await waiter.wait()
        return calls

    def put(self, calls: Sequence[Call[Request, Answer]]) -> None:
        """Take in as many calls as there are places for, and drop the others."""
        places = 0 if self.closed else self.capacity - len(self._calls)
        if places < len(calls):
            for call in calls[max(places, 0) :]:
                call.drop()
            calls = calls[: max(places, 0)]
        self._calls.extend(calls)
        if self._calls and self._takers:
            self._takers.unpark()

    async def take(
        self, batch_max: int, bytes_max: float = math.inf
    ) -> list[Call[Request, Answer]]:
        """Return all that waits, at most `batch_max` and `bytes_max`; [] = closed and empty.

        What comes in this very moment is waited for. Cancelled, it has taken nothing.
        """
        await self._gather(batch_max)
        while not self._calls:
            if self.closed:
                return []
            await self._takers.park()
            await self._gather(batch_max)
        calls = self._calls
        count = self.fitting(calls, batch_max, bytes_max)
        taken = [calls.popleft() for _ in range(count)]
        if self._askers:
            self._askers.unpark(count=len(taken))
        if calls and self._takers:
            self._takers.unpark()
        return taken

    async def _gather(self, batch_max: int) -> None:
        """Wait while calls come, turn after turn of the loop: one commit for all is cheapest."""
        until = trio.current_time() + GATHER_S
        await trio.lowlevel.checkpoint()
        quiet = 0
        while quiet < QUIET_TURNS and len(self._calls) < batch_max and trio.current_time() < until:
            before = len(self._calls)
            await trio.lowlevel.checkpoint()
            quiet = quiet + 1 if len(self._calls) == before else 0

    def fitting(
        self, calls: Iterable[Call[Request, Answer]], batch_max: int, bytes_max: float
    ) -> int:
        """Return how many of `calls`, from the first, fit into a batch; the first always does."""
        count, weight = 0, 0
        for call in calls:
            weight += self.weigh(call.request)
            if count and (count >= batch_max or weight > bytes_max):
                break
            count += 1
        return count

    def close(self) -> None:
        """Refuse new calls; what is in it is still taken."""
        self.closed = True
        self._takers.unpark_all()
        self._askers.unpark_all()

    def abandon(self) -> None:
        """Close, and drop what waits: there is nobody behind it any more."""
        self.close()
        while self._calls:
            self._calls.popleft().drop()
