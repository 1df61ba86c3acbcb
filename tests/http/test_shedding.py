"""Shedding before the intake, on the fake store: what it spares, and what it must never refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp import admission
from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.lanes import keep_lanes
from dpp.admission import Admission, Created, Exists, RateLimited, Submission, Window
from dpp.faults import StoreUnavailable
from dpp.http import shedding
from dpp.http.shedding import CLOCKS_S, PASS_MAX, PASS_S, Shedding
from dpp.plans import Plan
from dpp.ports import Intake, ItemBroken
from tests.actors.world import World, asked
from tests.conftest import FREE
from tests.fake_store import EPOCH, FakeStore

LIMIT = 10
PLANS = {
    "ten": Plan("ten", submits_per_minute=LIMIT, max_cost=1_000_000, fee=FREE),
    "unlimited": Plan("unlimited", fee=FREE),
}
ALL = PASS_MAX + 1  # as many go through although the rate is used up


@define(eq=False)
class Front:
    """Nodes that shed before one store, and the database's clock as each reckons it."""

    store: FakeStore
    nodes: list[Shedding] = field(factory=list)
    behind_s: list[float] = field(factory=list)
    told: list[tuple[str, int, int]] = field(factory=list)

    @property
    def node(self) -> Shedding:
        return self.nodes[0]

    @property
    def asked(self) -> int:
        """How often the store was asked to admit."""
        return self.store.faults.calls.count("submit_runs")

    def clock(self, n: int) -> int:
        return int(1000 * (EPOCH.timestamp() + trio.current_time() - self.behind_s[n]))

    def tell(self, n: int, *hint: str | int) -> None:
        self.told.append(hint)
        for other, node in enumerate(self.nodes):
            if other != n:
                node.heard(*hint)

    def would_create(self, submission: Submission) -> bool:
        books = self.store._books([submission])
        [answer] = admission.decide([submission], books, self.store.plans, self.store.terms)
        return isinstance(answer, Created)


@asynccontextmanager
async def open_front(nodes: int = 1) -> AsyncIterator[Front]:
    world = World(FakeStore(PLANS))
    await world.tenant("acme", "ten")
    front = Front(world.store, behind_s=[0.0] * nodes)
    actor = partial(intake, front.store, lambda _: None)
    desks = [IntakeDesk(1, 1000) for _ in range(nodes)]
    async with trio.open_nursery() as nursery:
        for n, desk in enumerate(desks):
            front.nodes.append(Shedding(desk, partial(front.clock, n), partial(front.tell, n)))
            nursery.start_soon(keep_lanes, "intake", desk, actor, world.stopping.after)
        yield front
        for desk in desks:
            desk.close()


async def use_up(front: Front, many: int = LIMIT) -> list[Submission]:
    created = [asked(max_cost=1000) for _ in range(many)]
    for submission in created:
        assert isinstance(await front.node.submit(submission), Created)
    return created


async def flood(node: Shedding, many: int = ALL) -> list[Admission]:
    return [await node.submit(asked(max_cost=1000)) for _ in range(many)]


async def test_a_flood_is_shed_and_told_when_the_rate_starts_anew(
    autojump_clock: MockClock,
) -> None:
    async with open_front() as front:
        await use_up(front)
        await flood(front.node)
        before = front.asked
        await trio.sleep(PASS_S / 2)
        answers = await flood(front.node, 1000)

    assert front.asked - before <= 1
    left_s = 60 - PASS_S / 2
    window = Window(LIMIT, remaining=0, reset_s=60)
    assert answers == [RateLimited(window)] * 1000
    assert answers[-1].window.left_s == pytest.approx(left_s, abs=0.01)


async def test_a_known_key_is_answered_while_the_rate_is_used_up(autojump_clock: MockClock) -> None:
    async with open_front() as front:
        created = await use_up(front)
        replayed = [await front.node.submit(submission) for submission in created]
        batch = await front.node.submit_batch(created)

    assert replayed == batch == [Exists(one.run_id) for one in created]


async def test_a_client_that_asks_again_in_a_flood_gets_through_soon(
    autojump_clock: MockClock,
) -> None:
    async with open_front() as front:
        [lost, *_] = await use_up(front)
        await flood(front.node)
        tries = 0
        while not isinstance(await front.node.submit(lost), Exists):
            tries += 1
            await trio.sleep(PASS_S)

    assert tries <= 1


async def test_the_next_window_begins_when_the_last_one_ends(autojump_clock: MockClock) -> None:
    async with open_front() as front:
        await use_up(front)
        await flood(front.node)
        await flood(front.node)
        await trio.sleep(60)
        answers = await flood(front.node, LIMIT)

    assert all(isinstance(answer, Created) for answer in answers)


async def test_another_node_sheds_what_it_never_asked_about(autojump_clock: MockClock) -> None:
    async with open_front(2) as front:
        await use_up(front)
        before = front.asked
        answers = await flood(front.nodes[1], 1000)

    assert front.asked - before <= ALL
    assert {type(answer) for answer in answers} == {RateLimited}
    assert {answer.window.limit for answer in answers} == {LIMIT}
    assert len(front.told) == 1


async def test_a_plan_that_allows_more_is_felt_at_once(autojump_clock: MockClock) -> None:
    async with open_front() as front:
        await use_up(front)
        await flood(front.node)
        await front.store.set_plan("acme", "unlimited", operator="ops")
        await trio.sleep(PASS_S)
        answers = await flood(front.node, 100)

    assert all(isinstance(answer, Created) for answer in answers)


async def test_an_older_word_does_not_undo_a_newer_one(autojump_clock: MockClock) -> None:
    """Answers of one batch reach their askers in any order: the last one said none is left."""
    async with open_front() as front:
        await use_up(front, LIMIT - 2)
        front.node.intake = Shuffled(front.node.intake)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(front.node.submit, asked(max_cost=1000))
                await wait_all_tasks_blocked()

        assert [*front.node._marks] == ["acme"]


@define(eq=False)
class Shuffled:
    """An intake whose newest answer arrives first; it has two to give."""

    intake: Intake
    asked: int = 0

    async def submit(self, submission: Submission) -> Admission:
        self.asked += 1
        late_s = 1.0 if self.asked == 1 else 0.1
        admission = await self.intake.submit(submission)
        if self.asked <= 2:
            await trio.sleep(late_s)
        return admission

    async def submit_batch(
        self, batch: Sequence[Submission]
    ) -> list[Admission | ItemBroken | None]:
        return await self.intake.submit_batch(batch)


@pytest.mark.parametrize("left_s", [-5.0, 0.5 * CLOCKS_S, 62.0, 1e9])
async def test_a_hint_that_is_old_or_of_no_window_changes_nothing(
    left_s: float, autojump_clock: MockClock
) -> None:
    async with open_front() as front:
        front.node.heard("acme", LIMIT, front.clock(0) + int(1000 * left_s))
        assert front.node._marks == {}


async def test_a_hint_that_is_made_up_costs_a_question_at_most(autojump_clock: MockClock) -> None:
    async with open_front() as front:
        front.node.heard("acme", LIMIT, front.clock(0) + 50_000)
        answers = await flood(front.node, LIMIT)

    assert all(isinstance(answer, Created) for answer in answers)


async def test_before_the_databases_time_is_known_nothing_is_told_or_heard(
    autojump_clock: MockClock,
) -> None:
    def unknown() -> int:
        raise StoreUnavailable

    async with open_front() as front:
        front.node.database_ms = unknown
        front.node.heard("acme", LIMIT, 1)
        await use_up(front)
        assert isinstance((await flood(front.node))[0], RateLimited)

    assert front.told == []


async def test_tenants_that_are_over_are_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "NAMES_MAX", 3)
    async with open_front() as front:
        for n in range(10):
            front.node.heard(f"tenant-{n}", LIMIT, front.clock(0) + 50_000)

        assert [*front.node._marks] == ["tenant-7", "tenant-8", "tenant-9"]


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_is_refused_that_the_intake_would_create(
    seed: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nodes whose clocks are off, refusals that count for nothing, and time that passes."""
    monkeypatch.setattr(shedding, "PASS_MAX", 2)  # so that nearly all of them are shed
    monkeypatch.setattr(shedding, "PASS_S", 10.0)
    dice, shed, created = Random(seed), 0, 0
    async with open_front(2) as front:
        front.behind_s = [dice.uniform(0, CLOCKS_S) for _ in front.nodes]
        for _ in range(1500):
            await trio.sleep(dice.choice([*[0] * 9, 0.01, 0.3, dice.uniform(0, 20)]))
            cost = dice.choice([1000, 1000, 10**9])  # more than the plan allows
            submission = asked(max_cost=cost)
            before, would = front.asked, front.would_create(submission)
            answer = await dice.choice(front.nodes).submit(submission)
            if front.asked == before:
                shed += 1
                assert isinstance(answer, RateLimited)
                assert not would
            created += isinstance(answer, Created)

    assert created > LIMIT
    assert shed > LIMIT


async def test_a_node_whose_clock_is_behind_does_not_shed_past_the_end(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "PASS_S", 60.0)
    async with open_front(2) as front:
        front.behind_s[1] = 0.9 * CLOCKS_S
        await use_up(front)
        while not front.nodes[1]._shed("acme", 1):
            pass
        await trio.sleep(60.01)
        answer = await front.nodes[1].submit(asked(max_cost=1000))

    assert isinstance(answer, Created)
