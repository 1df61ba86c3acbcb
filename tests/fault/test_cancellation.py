"""Whoever waits for a submit or a settle is cancelled, at every place where it can be.

On the way to PostgreSQL: an operation that was handed over runs to its end, whichever message it
has come to. In the actors: the asker, or the actor itself, is cancelled at each of its steps; the
operation never began or ran to its end, and asking again tells which. No cancel request may pass,
and both judges look at the books in the end.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from attrs import define, field

from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.lanes import keep_lanes
from dpp.actors.settler import SettlingDesk, settler
from dpp.admission import Created, Exists
from dpp.faults import StoreUnavailable
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import Settled
from tests.store.examples import DOLLAR, end, submission
from tests.store.sessions import LOOK_S, SOON_S, start
from tests.store.steps import begin, budget_of, make_tenant, take_lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dpp.actors.lanes import Lanes
    from dpp.admission import Submission
    from dpp.leases import NodeLease
    from dpp.settlement import End
    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.fault.scissors import Scissors

COST = DOLLAR // 10
MONEY = 100 * DOLLAR
SETTLED = Settled(Status.COMPLETED, Micros(COST))
PLACES_MIN = 12  # BEGIN, two statements and COMMIT have more messages than that


async def until(holds: Callable[[], bool]) -> None:
    """Return when that is so; each look lets everything else go on."""
    with trio.fail_after(SOON_S):
        while True:
            await trio.sleep(LOOK_S / 5)  # a transaction has a message about as often
            if holds():
                return


async def over(bridge: Bridge) -> None:
    """Wait until nothing is on its way any more."""
    await until(lambda: bridge._in_flight == 0)


# ── at each message ───────────────────────────────────────────────────────────────────────────────


async def cancelled_at_each_message(
    bridge: Bridge,
    scissors: Scissors,
    new: Callable[[], Awaitable[Any]],
    ask: Callable[[Any], Awaitable[Any]],
) -> list[Any]:
    """Cancel whoever asks at the first message, the second, … ; returns what was asked so."""
    some: list[Any] = []
    while True:
        one = await new()
        scissors.arm(len(some) + 1, cuts=False, waits=True)
        async with trio.open_nursery() as nursery:
            asking = start(nursery, partial(ask, one))
            await until(lambda asking=asking: scissors.reached.is_set() or asking.over)  # type: ignore[misc]
            nursery.cancel_scope.cancel()
        if not scissors.reached.is_set():
            return some
        scissors.go_on()
        await over(bridge)
        some.append(one)


async def test_a_submit_whose_asker_goes_at_any_message_is_made(
    wired: PostgresStore, judged: PostgresStore, bridge: Bridge, scissors: Scissors
) -> None:
    await make_tenant(judged, deposit=MONEY)
    await wired.submit_runs([submission(max_cost=COST)], wait=True)

    async def new() -> Submission:
        await trio.lowlevel.checkpoint()
        return submission(max_cost=COST)

    some = await cancelled_at_each_message(
        bridge, scissors, new, lambda one: wired.submit_runs([one], wait=True)
    )

    assert len(some) > PLACES_MIN
    assert await judged.submit_runs(some, wait=True) == [Exists(one.run_id) for one in some]
    held = COST * (len(some) + 2)  # the first one, and the last, which nobody cancelled
    assert await budget_of(judged) == (MONEY, MONEY - held, held, 0)


async def test_a_settle_whose_asker_goes_at_any_message_is_made(
    wired: PostgresStore, judged: PostgresStore, bridge: Bridge, scissors: Scissors
) -> None:
    await make_tenant(judged, deposit=MONEY)
    lease = await take_lease(judged)

    async def new() -> End:
        return end(await begin(judged, lease))

    await wired.end_runs([await new()], wait=True)

    some = await cancelled_at_each_message(
        bridge, scissors, new, lambda one: wired.end_runs([one], wait=True)
    )

    assert len(some) > PLACES_MIN
    spent = COST * (len(some) + 2)
    assert await budget_of(judged) == (MONEY, MONEY - spent, 0, spent)
    assert await judged.end_runs(some, wait=True) == [SETTLED] * len(some)


# ── at each step of asker and actor ───────────────────────────────────────────────────────────────


@define(eq=False)
class Canceller(trio.abc.Instrument):
    """Cancels what runs in its scope when one of its tasks begins its step number `step`, from 1."""  # noqa: E501

    step: int = 0  # none
    cancelled: trio.Event = field(factory=trio.Event)
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    steps: int = 0
    _root: trio.lowlevel.Task | None = None

    async def run(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run `task`; come back when it is over or was cancelled."""
        self._root = trio.lowlevel.current_task()
        trio.lowlevel.add_instrument(self)
        try:
            with self.scope:
                await task()
        finally:
            trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the steps of that task and of those below it."""
        above: trio.lowlevel.Task | None = task
        while above is not None and above is not self._root:
            above = above.parent_nursery.parent_task if above.parent_nursery else None
        if above is None:
            return
        self.steps += 1
        if self.steps == self.step:
            self.scope.cancel(reason="a test")
            self.cancelled.set()


@define(eq=False)
class Subject:
    """One of the two actors: its desk, how it is kept, what is asked, and what tells the truth."""

    desk: Lanes[Any, Any]
    keep: Callable[[], Awaitable[None]]
    new: Callable[[], Awaitable[Any]]
    ask: Callable[[Any], Awaitable[Any]]
    right: Callable[[Any, Any], bool]  # an answer to one that was asked for before
    first: Callable[[Any, Any], bool]  # one that did not come to the store
    go_on: Callable[[], None]  # lets what waits on the wire pass


def intaking(store: PostgresStore, scissors: Scissors) -> Subject:
    desk = IntakeDesk(1, 10)
    admit = partial(intake, store, lambda _: None)

    async def new() -> Submission:
        await trio.lowlevel.checkpoint()
        return submission(max_cost=COST)

    return Subject(
        desk,
        partial(keep_lanes, "intake", desk, admit, give_up),
        new,
        desk.submit,
        lambda one, answer: bool(answer == Exists(one.run_id)),
        lambda one, answer: isinstance(answer, Created) and answer.run_id == one.run_id,
        scissors.go_on,
    )


def settling(
    store: PostgresStore, scissors: Scissors, judged: PostgresStore, lease: NodeLease
) -> Subject:
    desk = SettlingDesk(1, 10)
    settle = partial(settler, store, lambda _: None)

    async def new() -> End:
        return end(await begin(judged, lease))

    return Subject(
        desk,
        partial(keep_lanes, "settler", desk, settle, give_up),
        new,
        lambda one: desk.settle(one, "a trace"),
        lambda _, answer: bool(answer == SETTLED),
        lambda _, answer: bool(answer == SETTLED),
        scissors.go_on,
    )


def give_up(bug: BaseException) -> None:
    """No actor has to here."""
    raise bug


@pytest.fixture(params=["submit", "settle"])
async def subject(
    request: pytest.FixtureRequest,
    wired: PostgresStore,
    judged: PostgresStore,
    scissors: Scissors,
) -> Subject:
    """Give an actor that talks through the wire, and a tenant with money."""
    await make_tenant(judged, deposit=MONEY)
    if request.param == "submit":
        return intaking(wired, scissors)
    return settling(wired, scissors, judged, await take_lease(judged))


async def until_answered(subject: Subject, one: Any) -> Any:
    """Ask again while the call is dropped, as clients and executors do."""
    with trio.fail_after(SOON_S):
        while True:
            try:
                return await subject.ask(one)
            except StoreUnavailable:
                await trio.sleep(LOOK_S)


async def done(judged: PostgresStore) -> int:
    """Count what the ledger has beside the deposit."""
    return len(await judged.list_transfers("acme", before=None, limit=1_000)) - 1


async def test_an_asker_that_goes_at_any_step_leaves_what_it_asked_for(
    subject: Subject, judged: PostgresStore, bridge: Bridge
) -> None:
    """It has handed its call in before its first step is over: the actor does it."""
    told: list[bool] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(subject.keep)
        while True:
            one, before = await subject.new(), await done(judged)
            canceller = Canceller(len(told) + 1)
            await canceller.run(lambda one=one: subject.ask(one))  # type: ignore[misc]
            if not canceller.scope.cancelled_caught:
                break
            await trio.testing.wait_all_tasks_blocked()  # the actor has taken what there was
            await over(bridge)
            told.append(await done(judged) > before)
            assert subject.right(one, await until_answered(subject, one))
            assert await done(judged) == before + 1
        subject.desk.close()

    print(f"cancelled at {len(told)} steps: done {told}")
    assert told
    assert all(told)


async def test_an_actor_that_is_cancelled_at_any_step_leaves_all_or_nothing(
    subject: Subject, judged: PostgresStore, bridge: Bridge
) -> None:
    told: list[bool] = []
    while True:
        canceller = Canceller(len(told) + 1)
        happened = await once_cancelled(subject, judged, bridge, canceller, canceller.cancelled)
        if happened is None:
            break
        told.append(happened)

    print(f"cancelled at {len(told)} steps: done {told}")
    assert set(told) == {True, False}, "one side of the hand-over was not met"


async def test_an_actor_that_is_cancelled_at_any_message_leaves_what_it_handed_over(
    subject: Subject, judged: PostgresStore, bridge: Bridge, scissors: Scissors
) -> None:
    count = 0
    while True:
        canceller = Canceller()
        scissors.arm(count + 1, cuts=False, waits=True)
        happened = await once_cancelled(subject, judged, bridge, canceller, scissors.reached)
        if happened is None:
            break
        assert happened
        count += 1

    assert count > PLACES_MIN


async def once_cancelled(
    subject: Subject,
    judged: PostgresStore,
    bridge: Bridge,
    canceller: Canceller,
    now: trio.Event,
) -> bool | None:
    """Ask for one thing and cancel the actor `now`; the next life of the actor has to answer.

    Returns whether it was done by the first one; None = that was not cancelled.
    """
    one, before = await subject.new(), await done(judged)
    async with trio.open_nursery() as nursery:
        asking = start(nursery, partial(subject.ask, one))
        await trio.testing.wait_all_tasks_blocked()  # what is asked waits in the mailbox
        running = start(nursery, partial(canceller.run, subject.keep))
        await until(lambda: now.is_set() or asking.over)
        if now.is_set():
            canceller.scope.cancel()
            await running.result()
            subject.go_on()
            await over(bridge)
        happened = await done(judged) > before
        nursery.start_soon(subject.keep)  # as its supervisor would
        try:
            answer = await asking.result()  # left in the mailbox, or answered in the last moment
            assert subject.right(one, answer) or subject.first(one, answer)
        except StoreUnavailable:
            answer = await until_answered(subject, one)
            assert (subject.right if happened else subject.first)(one, answer)
        assert await done(judged) == before + 1
        nursery.cancel_scope.cancel()
    return happened if now.is_set() else None
