from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import trio
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dpp.actors.intake import IntakeDesk
from dpp.actors.lane import BATCH_BYTES_MAX, Lane
from dpp.actors.lanes import Lanes, keep_lanes
from dpp.actors.mailbox import Call, Mailbox, Waiter, weightless
from dpp.actors.settler import Ending, SettlingDesk
from dpp.admission import Busy
from dpp.faults import StoreUnavailable
from dpp.leases import Fence
from dpp.money import ZERO
from dpp.runs import ErrorCode, Failure, StoredResult
from dpp.settlement import Completed, End, FailedByItself, Outcome
from tests.actors.world import asked

COMMIT_S = 0.005


@frozen
class Item:
    tenant_id: str
    n: int


@define(eq=False)
class Till:
    """A verb whose tenants can be held. `served` is the order in which it committed."""

    held: set[str] = field(factory=set)
    poisoned: set[int] = field(factory=set)
    away: set[str] = field(factory=set)  # tenants whose row cannot be had at all
    served: list[Item] = field(factory=list)
    batches: list[int] = field(factory=list)
    waiting: int = 0
    waiting_most: int = 0
    released: trio.Event = field(factory=trio.Event)
    heaviest: int = 0  # batch, if the number of an item is what it weighs

    async def __call__(self, batch: Sequence[Item], *, wait: bool) -> list[str | Busy]:
        self.batches.append(len(batch))
        self.heaviest = max(self.heaviest, sum(item.n for item in batch))
        if wait:
            await self._until_free({item.tenant_id for item in batch})
        await trio.sleep(COMMIT_S)
        if not self.poisoned.isdisjoint(item.n for item in batch):
            raise RuntimeError("refused")
        held = set(self.held)
        self.served += [item for item in batch if item.tenant_id not in held]
        return [Busy() if item.tenant_id in held else f"done {item.n}" for item in batch]

    async def _until_free(self, tenants: set[str]) -> None:
        assert len(tenants) == 1
        self.waiting += 1
        self.waiting_most = max(self.waiting, self.waiting_most)
        try:
            if tenants & self.away:
                await trio.sleep(8)
                raise StoreUnavailable("lock timeout")
            while tenants & self.held:
                await self.released.wait()
        finally:
            self.waiting -= 1

    def release(self, tenant_id: str) -> None:
        self.held.discard(tenant_id)
        self.released.set()
        self.released = trio.Event()


@define(eq=False)
class Desk:
    """A lane behind a mailbox, and what its askers were answered and when."""

    till: Till = field(factory=Till)
    mailbox: Mailbox[Item, str] = field(factory=lambda: Mailbox(10_000))
    answers: dict[Item, str] = field(factory=dict)
    answered_at: dict[Item, float] = field(factory=dict)
    nursery: trio.Nursery | None = None

    def ask(self, *items: Item) -> None:
        """Put these in, in this order."""
        assert self.nursery is not None
        for item in items:
            waiter = Waiter(1)
            call: Call[Item, str] = Call(item, waiter)
            self.mailbox.put([call])
            self.nursery.start_soon(self._wait, call, waiter)

    async def _wait(self, call: Call[Item, str], waiter: Waiter) -> None:
        await waiter.wait()
        try:
            self.answers[call.request] = call.result()
        except StoreUnavailable:
            self.answers[call.request] = "dropped"
        except ZeroDivisionError:
            self.answers[call.request] = "bug"
        self.answered_at[call.request] = trio.current_time()


async def give_a_bug(call: Call[Item, str], bug: Exception) -> None:
    call.fail(ZeroDivisionError(str(bug)))


@asynccontextmanager
async def open_desk(
    till: Till | None = None,
    *,
    batch_max: int = 100,
    parked_max: int = 1000,
    waiting_max: int = 2,
    weigh: Callable[[Item], int] = weightless,
) -> AsyncIterator[Desk]:
    """Run a lane meanwhile; leaving closes its mailbox and waits for its end."""
    desk = Desk(till or Till(), Mailbox(10_000, weigh))
    lane = Lane(
        name="lane",
        mailbox=desk.mailbox,
        verb=desk.till,
        alone=give_a_bug,
        batch_max=batch_max,
        parked_max=parked_max,
        waiting_max=waiting_max,
    )
    async with trio.open_nursery() as nursery, trio.open_nursery() as asking:
        desk.nursery = asking
        nursery.start_soon(lane.run)
        yield desk
        desk.mailbox.close()


def of(tenant_id: str, *numbers: int) -> list[Item]:
    return [Item(tenant_id, n) for n in numbers]


async def test_all_that_waits_is_one_batch(autojump_clock: MockClock) -> None:
    async with open_desk() as desk:
        desk.ask(*of("a", 1, 2), *of("b", 3))

    assert desk.till.batches == [3]
    assert set(desk.answers.values()) == {"done 1", "done 2", "done 3"}


async def test_a_held_tenant_delays_nobody_else(autojump_clock: MockClock) -> None:
    async with open_desk(Till(held={"a"})) as desk:
        for n in range(40):
            desk.ask(Item("a", n), Item("b", n))
            await trio.sleep(0.1)
        asked_for_4_s = dict(desk.answers)
        desk.till.release("a")

    assert set(asked_for_4_s) == set(of("b", *range(40)))
    lateness = [desk.answered_at[Item("b", n)] - n * 0.1 for n in range(40)]
    assert max(lateness) <= 3 * COMMIT_S
    assert len(desk.answers) == 80


async def test_a_held_tenant_keeps_its_order(autojump_clock: MockClock) -> None:
    async with open_desk(Till(held={"a"}), batch_max=3) as desk:
        desk.ask(*of("a", *range(20)))
        desk.till.release("a")

    assert desk.till.served == of("a", *range(20))


async def test_more_held_tenants_than_may_be_waited_for_are_tried_again(
    autojump_clock: MockClock,
) -> None:
    held = {f"t{n}" for n in range(6)}
    async with open_desk(Till(held=set(held))) as desk:
        desk.ask(*(Item(tenant_id, n) for tenant_id in sorted(held) for n in range(3)))
        await trio.sleep(1)
        assert desk.answers == {}
        for tenant_id in sorted(held)[2:]:  # the first two go on being held
            desk.till.release(tenant_id)
        await trio.sleep(0.1)
        while_two_are_held = {item.tenant_id for item in desk.answers}
        for tenant_id in sorted(held)[:2]:
            desk.till.release(tenant_id)

    assert len(while_two_are_held) == 4
    assert desk.till.waiting_most == 2
    assert len(desk.answers) == 18


async def test_a_tenant_that_is_tried_again_in_parts_keeps_its_order(
    autojump_clock: MockClock,
) -> None:
    async with open_desk(Till(held={"a", "b"}), batch_max=3, waiting_max=1) as desk:
        desk.ask(*of("a", 100))
        await trio.sleep(1)
        desk.ask(*of("b", *range(10)))  # the one waiter is taken: these are tried again and again
        await trio.sleep(1)
        desk.till.release("b")
        await trio.sleep(1)
        desk.till.release("a")

    assert desk.till.served == [*of("b", *range(10)), *of("a", 100)]


async def test_a_batch_in_halves_keeps_the_order_of_a_tenant_that_comes_free_meanwhile(
    autojump_clock: MockClock,
) -> None:
    async with open_desk(Till(held={"a"}, poisoned={9})) as desk:
        desk.ask(*of("a", 1), *of("b", 2), *of("a", 3), *of("b", 9))
        await trio.sleep(2.5 * COMMIT_S)  # the whole batch was refused, the first half is through
        desk.till.release("a")

    assert [item.n for item in desk.till.served if item.tenant_id == "a"] == [1, 3]


async def test_what_cannot_be_parked_is_dropped(autojump_clock: MockClock) -> None:
    async with open_desk(Till(held={"a"}), parked_max=5) as desk:
        desk.ask(*of("a", *range(12)), *of("b", 99))
        await trio.sleep(1)
        desk.till.release("a")

    kept = [item.n for item, answer in desk.answers.items() if answer.startswith("done")]
    assert sorted(kept) == [0, 1, 2, 3, 4, 99]
    assert list(desk.answers.values()).count("dropped") == 7


async def test_what_is_being_asked_for_is_not_dropped_for_others(autojump_clock: MockClock) -> None:
    async with open_desk(Till(held={"a", "b", "c"}), parked_max=4, batch_max=3) as desk:
        desk.ask(*of("a", 1, 2, 3))
        await trio.sleep(1)
        desk.ask(*of("b", *range(10, 20)), *of("c", *range(20, 30)), *of("d", 40))
        await trio.sleep(1)
        for tenant_id in "abc":
            desk.till.release(tenant_id)

    done = {item.n for item, answer in desk.answers.items() if answer.startswith("done")}
    assert {1, 2, 3, 40} <= done
    assert len(desk.answers) == 24


async def test_a_row_that_cannot_be_had_drops_its_tenant_alone(autojump_clock: MockClock) -> None:
    async with open_desk(Till(held={"a"}, away={"a"})) as desk:
        desk.ask(*of("a", 1), *of("b", 2))
        await trio.sleep(9)
        desk.ask(*of("b", 3))

    assert desk.answers == {
        Item("a", 1): "dropped",
        Item("b", 2): "done 2",
        Item("b", 3): "done 3",
    }


async def test_a_poisoned_item_harms_only_itself(autojump_clock: MockClock) -> None:
    async with open_desk(Till(poisoned={7})) as desk:
        desk.ask(*of("a", *range(10)))

    assert desk.answers.pop(Item("a", 7)) == "bug"
    assert sorted(desk.answers.values()) == sorted(f"done {n}" for n in range(10) if n != 7)


async def test_a_poisoned_item_of_a_held_tenant_harms_only_itself(
    autojump_clock: MockClock,
) -> None:
    async with open_desk(Till(held={"a"}, poisoned={7})) as desk:
        desk.ask(*of("a", *range(10)), *of("b", 20))
        await trio.sleep(1)
        desk.till.release("a")

    assert desk.answers.pop(Item("a", 7)) == "bug"
    assert all(answer.startswith("done") for answer in desk.answers.values())
    assert len(desk.answers) == 10


@define(eq=False)
class Told(Till):
    """A held tenant. `told`: what the questions that wait for it meet; after that it is free."""

    told: deque[str] = field(factory=deque)

    async def __call__(self, batch: Sequence[Item], *, wait: bool) -> list[str | Busy]:
        await trio.sleep(COMMIT_S)
        now = self.told.popleft() if wait and self.told else "held" if self.told else "free"
        if now == "refused":
            raise RuntimeError
        if now == "away":
            raise StoreUnavailable
        if now in {"busy", "held"}:
            return [Busy()] * len(batch)
        self.served += batch
        return [f"done {item.n}" for item in batch]


@pytest.mark.parametrize(
    ("told", "done"),
    [
        (["busy"], 4),  # somebody of the same tenant has the place to wait
        (["refused", "busy"], 4),  # the second half must not be asked before the first
        (["refused", "busy", "away"], 0),
        (["refused", "answered", "busy"], 4),
        (["refused", "answered", "away"], 2),
        (["refused", "refused", "busy"], 4),
        (["refused", "refused", "answered", "busy"], 4),
        (["refused", "refused", "answered", "away"], 1),
        (["away"], 0),
    ],
)
async def test_a_batch_that_is_waited_for_in_halves_keeps_its_order_and_forgets_nobody(
    autojump_clock: MockClock, told: list[str], done: int
) -> None:
    with trio.fail_after(60):
        async with open_desk(Told(told=deque(told))) as desk:
            desk.ask(*of("a", 0, 1, 2, 3))

    expected = [f"done {n}" if n < done else "dropped" for n in range(4)]
    assert [desk.answers[item] for item in of("a", 0, 1, 2, 3)] == expected
    assert desk.till.served == of("a", *range(done))


async def test_what_comes_while_halves_are_waited_for_stays_behind_them(
    autojump_clock: MockClock,
) -> None:
    async with open_desk(Told(told=deque(["refused", "busy"]))) as desk:
        desk.ask(*of("a", 0, 1, 2, 3))
        for n in range(4, 60):
            desk.ask(*of("a", n))
            await trio.sleep(COMMIT_S)

    assert desk.till.served == of("a", *range(60))


async def test_closing_answers_what_is_parked_first(autojump_clock: MockClock) -> None:
    async with open_desk(Till(held={"a", "b", "c"})) as desk:
        desk.ask(*(Item(tenant_id, n) for tenant_id in "abc" for n in range(4)))
        await trio.sleep(1)
        desk.mailbox.close()
        await trio.sleep(1)
        assert desk.answers == {}
        for tenant_id in "abc":
            desk.till.release(tenant_id)

    assert len(desk.answers) == 12
    assert all(answer.startswith("done") for answer in desk.answers.values())


@pytest.mark.parametrize("fault", [StoreUnavailable("away"), ValueError("a bug of the lane")])
async def test_a_lane_that_ends_drops_all_that_is_in_its_hands(
    autojump_clock: MockClock, fault: Exception
) -> None:
    till = Till(held={"a"})
    answers: dict[int, str] = {}
    mailbox: Mailbox[Item, str] = Mailbox(100)

    async def verb(batch: Sequence[Item], *, wait: bool) -> list[str | Busy]:
        if any(item.tenant_id == "b" for item in batch):
            raise fault
        return await till(batch, wait=wait)

    async def unlucky(call: Call[Item, str], bug: Exception) -> None:
        raise bug

    async def ask(item: Item) -> None:
        with pytest.raises(StoreUnavailable):
            await mailbox.ask(item)
        answers[item.n] = "dropped"

    async def live() -> None:
        with pytest.RaisesGroup(type(fault)):
            await Lane(name="lane", mailbox=mailbox, verb=verb, alone=unlucky).run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(live)
        nursery.start_soon(ask, Item("a", 1))
        await trio.sleep(1)
        nursery.start_soon(ask, Item("a", 2))
        await trio.sleep(1)
        nursery.start_soon(ask, Item("b", 3))

    assert sorted(answers) == [1, 2, 3]


# bytes


def mebibytes(item: Item) -> int:
    return item.n << 20


async def test_a_batch_is_bounded_by_its_bytes(autojump_clock: MockClock) -> None:
    async with open_desk(weigh=mebibytes) as desk:
        desk.ask(*of("a", 3, 3), *of("b", 3, 5), *of("a", 1, 99), *of("b", 8))

    assert BATCH_BYTES_MAX == 8 << 20
    assert desk.till.batches == [2, 2, 1, 1, 1]
    assert len(desk.till.served) == 7


@pytest.mark.parametrize("held_s", [0.05, 1.0])
async def test_what_is_parked_is_tried_again_in_batches_of_bounded_bytes(
    autojump_clock: MockClock, held_s: float
) -> None:
    """Both before the lane waits for the tenant, and while it does."""
    items = of("a", *[3] * 40)
    async with open_desk(Till(held={"a"}), weigh=mebibytes) as desk:
        desk.ask(*items)
        await trio.sleep(held_s)
        desk.till.release("a")

    assert desk.till.heaviest <= 16  # what is tried again, and what is new: each has its bound
    assert desk.till.served == items


def test_a_submission_weighs_its_inputs() -> None:
    one = asked(inputs={"body": "x" * 1000})
    (mailbox,) = IntakeDesk(1, 10).mailboxes

    assert mailbox.weigh(one) == len(one.inputs) > 1000


@pytest.mark.parametrize(
    ("outcome", "weight"),
    [
        (Completed(b"x" * 1000, ZERO), 1000),
        (Completed(StoredResult("key", b"digest"), ZERO), 0),  # it lies elsewhere
        (FailedByItself(Failure(ErrorCode.PACK_ERROR, "no"), ZERO), 0),
    ],
)
def test_an_end_weighs_its_result(outcome: Outcome, weight: int) -> None:
    one = End(uuid4(), "acme", Fence(uuid4(), uuid4(), 1), outcome)
    (mailbox,) = SettlingDesk(1, 10).mailboxes

    assert mailbox.weigh(Ending(one, "trace")) == weight


# the lane's own end


async def test_an_outage_is_ridden_out_behind_the_same_mailbox(autojump_clock: MockClock) -> None:
    lanes: Lanes[Item, str] = Lanes(1, 100)
    till, away = Till(), True

    async def verb(batch: Sequence[Item], *, wait: bool) -> list[str | Busy]:
        if away:
            raise StoreUnavailable
        return await till(batch, wait=wait)

    async def actor(mailbox: Mailbox[Item, str]) -> None:
        await Lane(name="lane", mailbox=mailbox, verb=verb, alone=give_a_bug).run()

    bugs: list[BaseException] = []
    async with trio.open_nursery() as nursery, lanes:
        nursery.start_soon(keep_lanes, "lane", lanes, actor, bugs.append)
        for _ in range(10):
            with pytest.raises(StoreUnavailable):
                await lanes.of("a").ask(Item("a", 1))
        away = False
        answer = await lanes.of("a").ask(Item("a", 1))

    assert (answer, bugs) == ("done 1", [])


async def test_a_lane_that_gives_up_answers_everybody(autojump_clock: MockClock) -> None:
    lanes: Lanes[Item, str] = Lanes(1, 100)
    bugs: list[BaseException] = []

    async def broken(_: Mailbox[Item, str]) -> None:
        raise ZeroDivisionError

    async def refused(n: int) -> None:
        with pytest.raises(StoreUnavailable), trio.fail_after(60):
            await lanes.of("a").ask(Item("a", n))

    async with trio.open_nursery() as nursery:
        for n in range(20):
            nursery.start_soon(refused, n)
        nursery.start_soon(keep_lanes, "lane", lanes, broken, bugs.append)

    assert len(bugs) == 1
    with pytest.raises(StoreUnavailable):
        await lanes.of("a").ask(Item("a", 99))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_order_and_answers_hold_whoever_holds_what(data: st.DataObject) -> None:
    tenants = ["a", "b", "c", "d", "e"]
    script = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["ask", "ask", "ask", "hold", "release"]), st.sampled_from(tenants)
            ),
            max_size=120,
        )
    )
    pauses = data.draw(st.lists(st.sampled_from([0, 0, 0.001, 0.03]), min_size=120, max_size=120))
    poisoned = data.draw(st.sets(st.integers(0, 119), max_size=4))
    batch_max = data.draw(st.integers(1, 8))
    till = Till(poisoned=poisoned)
    asked: dict[str, list[int]] = defaultdict(list)

    async def play() -> Desk:
        async with open_desk(till, batch_max=batch_max) as desk:
            for n, ((what, tenant_id), pause_s) in enumerate(zip(script, pauses, strict=False)):
                if what == "hold":
                    till.held.add(tenant_id)
                elif what == "release":
                    till.release(tenant_id)
                else:
                    asked[tenant_id].append(n)
                    desk.ask(Item(tenant_id, n))
                await trio.sleep(pause_s)
            for tenant_id in tenants:
                till.release(tenant_id)
        return desk

    desk = trio.run(play, clock=MockClock(autojump_threshold=0))

    assert len(desk.answers) == sum(map(len, asked.values()))
    assert {item.n for item, answer in desk.answers.items() if answer == "bug"} == {
        n for numbers in asked.values() for n in numbers if n in poisoned
    }
    assert "dropped" not in desk.answers.values()
    for tenant_id, numbers in asked.items():
        served = [item.n for item in till.served if item.tenant_id == tenant_id]
        assert served == [n for n in numbers if n not in poisoned]
