from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.lanes import keep_lanes
from dpp.admission import Admission, Created, Exists, InsufficientBudget, Submission
from dpp.faults import StoreUnavailable
from dpp.ports import Intake, ItemBroken
from tests.actors.world import World, asked
from tests.fake_audit import audit
from tests.fake_faults import Fault
from tests.fake_store import FakeStore


@define(eq=False)
class Front:
    """The intake alone: its desk, the store behind it, and what it told the claimer."""

    desk: IntakeDesk
    store: FakeStore
    queued: list[str] = field(factory=list)


@asynccontextmanager
async def open_intake(store: FakeStore | None = None, capacity: int = 1000) -> AsyncIterator[Front]:
    world = World() if store is None else World(store)
    if store is None:
        for tenant_id in ("acme", "globex"):
            await world.tenant(tenant_id)
    front = Front(IntakeDesk(2, capacity), world.store)
    actor = partial(intake, front.store, front.queued.append)
    async with trio.open_nursery() as nursery, front.desk:
        nursery.start_soon(keep_lanes, "intake", front.desk, actor, world.stopping.after)
        yield front


def as_port(desk: IntakeDesk) -> Intake:
    return desk


async def submit_until_answered(front: Front, submission: Submission) -> Admission:
    """Do what a client does: send it again, under the same key, while the answer is a 503."""
    while True:
        try:
            return await front.desk.submit(submission)
        except StoreUnavailable:
            await trio.sleep(1)


async def test_a_submission_is_created_and_the_claimer_hears_of_it(
    autojump_clock: MockClock,
) -> None:
    async with open_intake() as front:
        admission = await as_port(front.desk).submit(asked())

    assert isinstance(admission, Created)
    assert front.queued == ["acme"]


async def test_what_waits_when_the_node_drains_is_committed_and_answered(
    autojump_clock: MockClock,
) -> None:
    admitted: list[Admission] = []

    async with trio.open_nursery() as clients, open_intake() as front:
        front.store.faults.fail("submit_runs", Fault(before_s=1), nth=1)

        async def submit() -> None:
            admitted.append(await front.desk.submit(asked()))

        for _ in range(3):
            clients.start_soon(submit)
            await trio.sleep(0.1)  # the first is on its way; the others wait in the mailbox

    assert [type(one) for one in admitted] == [Created] * 3


async def test_a_refusal_queues_nothing(autojump_clock: MockClock) -> None:
    async with open_intake() as front:
        admission = await front.desk.submit(asked(max_cost=11_000_000))

    assert admission == InsufficientBudget(10_000_000, required=11_000_000)
    assert front.queued == []


async def test_a_batch_waits_once_and_answers_in_order(autojump_clock: MockClock) -> None:
    batch = [asked(key=f"key-{n % 3}") for n in range(5)]

    async with open_intake() as front:
        admissions = await front.desk.submit_batch(batch)
        nothing = await front.desk.submit_batch([])

    assert [type(one) for one in admissions[:3]] == [Created] * 3
    assert admissions[3:] == [Exists(batch[0].run_id), Exists(batch[1].run_id)]
    assert nothing == []
    assert front.store.faults.calls.count("submit_runs") == 1
    assert front.queued == ["acme"]


async def test_what_waits_is_one_transaction(autojump_clock: MockClock) -> None:
    async with open_intake() as front, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(front.desk.submit, asked())

    assert front.store.faults.calls.count("submit_runs") <= 2
    assert len(front.store.rows.submissions) == 20


async def test_a_batch_over_the_mailbox_is_cut_and_says_where(autojump_clock: MockClock) -> None:
    async with open_intake(capacity=3) as front:
        admissions = await front.desk.submit_batch([asked() for _ in range(5)])

    assert [admission is None for admission in admissions] == [False, False, False, True, True]
    assert len(front.store.rows.submissions) == 3


async def test_a_poisoned_submission_gets_its_bug_and_harms_only_itself(
    autojump_clock: MockClock,
) -> None:
    good, bad = [asked() for _ in range(6)], asked()
    admitted: list[Admission] = []

    async def submit(submission: Submission) -> None:
        admitted.append(await front.desk.submit(submission))

    async def refused() -> None:
        with pytest.raises(RuntimeError, match="refused by a constraint"):
            await front.desk.submit(bad)

    async with open_intake() as front:
        front.store.faults.poisoned.add(bad.run_id)
        async with trio.open_nursery() as nursery:
            for submission in good[:3]:
                nursery.start_soon(submit, submission)
            nursery.start_soon(refused)
            for submission in good[3:]:
                nursery.start_soon(submit, submission)

    assert [type(admission) for admission in admitted] == [Created] * 6
    assert bad.run_id not in front.store.rows.submissions
    assert (await front.store.audit()).ok


async def test_a_poisoned_item_of_a_batch_is_answered_as_a_bug(
    autojump_clock: MockClock,
) -> None:
    batch = [asked() for _ in range(4)]

    async with open_intake() as front:
        front.store.faults.poisoned.add(batch[2].run_id)
        admissions = await front.desk.submit_batch(batch)

    assert [isinstance(one, Created) for one in admissions] == [True, True, False, True]
    assert admissions[2] == ItemBroken()


async def test_a_held_budget_delays_its_tenant_alone(autojump_clock: MockClock) -> None:
    took: dict[str, float] = {}

    async def submit(tenant_id: str) -> None:
        began_at = trio.current_time()
        await front.desk.submit(asked(tenant_id))
        took[tenant_id] = trio.current_time() - began_at

    async with open_intake() as front:
        front.store.faults.hold("acme")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, "acme")
            nursery.start_soon(submit, "globex")
            await trio.sleep(4)
            front.store.faults.release("acme")

    assert took["globex"] < 0.1
    assert took["acme"] >= 4


async def test_a_client_that_goes_leaves_its_submission(autojump_clock: MockClock) -> None:
    async with open_intake() as front:
        front.store.faults.hold("acme")
        with trio.move_on_after(1) as scope:
            await front.desk.submit(asked())
        front.store.faults.release("acme")
        await trio.sleep(1)

    assert scope.cancelled_caught
    assert len(front.store.rows.submissions) == 1
    assert front.queued == ["acme"]


async def test_a_closed_desk_refuses_and_answers_what_it_has(autojump_clock: MockClock) -> None:
    async with open_intake() as front:
        front.store.faults.hold("acme")
        created: list[Admission] = []

        async def submit() -> None:
            created.append(await front.desk.submit(asked()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit)
            await trio.sleep(1)
            front.desk.close()
            with pytest.raises(StoreUnavailable):
                await front.desk.submit(asked())
            front.store.faults.release("acme")

    assert len(created) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_whatever_submit_fails_a_client_that_asks_again_has_each_run_once(
    autojump_clock: MockClock, *, after: bool
) -> None:
    submissions = [asked("acme", key=f"a{n}") for n in range(3)] + [asked("globex", key="g")]
    for n in range(1, 100):
        world = World()
        for tenant_id in ("acme", "globex"):
            await world.tenant(tenant_id)
        calls = len(world.store.faults.calls)
        world.store.faults.fail_call(calls + n, Fault(StoreUnavailable("cut"), after=after))
        async with open_intake(world.store) as front, trio.open_nursery() as nursery:
            for submission in submissions:
                nursery.start_soon(submit_until_answered, front, submission)

        assert set(world.store.rows.submissions) == {one.run_id for one in submissions}
        assert audit(world.store.rows).ok
        if len(world.store.faults.calls) - calls <= n:
            assert n > 1
            return
    pytest.fail("no run was left untouched")
