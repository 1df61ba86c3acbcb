from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors import follower as module
from dpp.actors.attempts import Attempt
from dpp.claims import Claim, Claimed, Turn
from dpp.faults import StoreUnavailable
from dpp.leases import NodeLease
from dpp.money import Micros
from dpp.runs import Run, Status
from dpp.settlement import Completed, End
from dpp.watches import Watch
from tests.actors.world import World, asked
from tests.fake_faults import Fault


async def executing(world: World, runs: int = 1) -> list[Attempt]:
    """Claim runs and register them, as if they were in work here."""
    await world.tenant()
    await world.store.submit_runs([asked() for _ in range(runs)], wait=True)
    lease = NodeLease(uuid4(), world.node_id)
    await world.store.take_lease(lease, lease_s=3000, hand_back=())
    turns = (Turn("acme"),)
    claimed = await world.store.claim_runs(
        Claim(lease=lease, turns=turns, per_tenant=runs, limit=runs, packs=("echo",))
    )
    assert isinstance(claimed, list)
    attempts = [Attempt.of(one, trio.current_time()) for one in claimed]
    for attempt in attempts:
        world.attempts.add(attempt)
    return attempts


@asynccontextmanager
async def following(world: World) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.follow)
        yield nursery
        nursery.cancel_scope.cancel()


def questions(world: World) -> int:
    return world.store.faults.calls.count("follow")


async def end(world: World, claimed: Claimed) -> None:
    done = Completed(b'"done"', Micros(0))
    await world.store.end_runs([End(uuid4(), "acme", claimed.fence, done)], wait=True)


async def test_nothing_to_ask_is_not_asked(autojump_clock: MockClock) -> None:
    world = World()

    async with following(world):
        await trio.sleep(60)

    assert questions(world) == 0


async def test_a_cancel_is_felt_within_half_a_second(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        await trio.sleep(10.1)
        await world.store.cancel_run("acme", attempt.fence.run_id)
        with trio.fail_after(0.55):
            await attempt.ctx.cancelled.wait()


async def test_a_cancel_of_this_node_is_felt_at_once(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        await trio.sleep(10.1)
        await world.store.cancel_run("acme", attempt.fence.run_id)
        world.board.hint(attempt.fence.run_id)
        with trio.fail_after(0.01):
            await attempt.ctx.cancelled.wait()


async def test_a_run_that_ends_here_answers_its_waiter_at_once(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)
    watch, answers = Watch("acme", attempt.fence.run_id), list[Run | None]()

    async def wait() -> None:
        answers.append(await world.board.wait_terminal(watch, Status.PROCESSING))

    async with following(world) as nursery:
        nursery.start_soon(wait)
        await trio.sleep(10.1)
        assert answers == []
        await end(world, attempt.claimed)
        world.board.ended(attempt.fence.run_id)
        await trio.sleep(0.01)

    assert answers == [world.run(attempt.fence.run_id)]


async def test_a_run_that_ends_elsewhere_answers_within_half_a_second(
    autojump_clock: MockClock,
) -> None:
    world = World()
    (attempt,) = await executing(world)
    watch, answers = Watch("acme", attempt.fence.run_id), list[Run | None]()

    async def wait() -> None:
        answers.append(await world.board.wait_terminal(watch, Status.PROCESSING))

    async with following(world) as nursery:
        nursery.start_soon(wait)
        await trio.sleep(10.1)
        await end(world, attempt.claimed)
        await trio.sleep(0.55)

    assert answers == [world.run(attempt.fence.run_id)]


async def test_wake_ups_share_a_question(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        await trio.sleep(1)
        before = questions(world)
        for _ in range(100):
            world.board.hint(attempt.fence.run_id)
            await trio.sleep(0.001)

    assert questions(world) - before <= 0.1 / module.GAP_S + 1


async def test_one_question_is_asked_at_a_time(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)
    world.store.faults.fail("follow", Fault(after_s=3))

    async with following(world):
        for _ in range(25):
            world.board.hint(attempt.fence.run_id)
            await trio.sleep(0.1)
        assert questions(world) == 1


async def test_events_go_out_under_the_fence_of_their_attempt(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        attempt.ctx.progress(0.25, "a quarter")
        await attempt.ctx.charge(Micros(70), "a step")
        await trio.sleep(1)
        attempt.ctx.progress(0.5, "half")
        await trio.sleep(1)

    run = world.run(attempt.fence.run_id)
    assert run.progress is not None
    assert (run.progress.fraction, run.progress.note) == (0.5, "half")
    told = [(event.n, event.kind, event.note) for event in world.store.rows.events.values()]
    assert told == [(1, "progress", "a quarter"), (2, "charge", "a step"), (3, "progress", "half")]


async def test_events_of_an_outage_are_sent_after_it(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        with world.store.faults.outage():
            for n in range(40):
                await attempt.ctx.charge(Micros(10), "a step")
                await trio.sleep(0.25 if n % 2 else 0)
        await trio.sleep(5)

    charged = sum(event.amount or 0 for event in world.store.rows.events.values())
    assert charged == attempt.ctx.charged == 400


async def test_a_question_carries_a_bounded_number_of_events(
    autojump_clock: MockClock, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "EVENTS_MAX", 100)
    world = World()
    attempts = await executing(world, runs=20)
    for attempt in attempts:
        for n in range(50):
            attempt.ctx.progress(n / 50)

    taken = module.collect(world.attempts, 100)

    assert 100 <= len(taken) < 100 + 64
    async with following(world):
        await trio.sleep(30)
    assert len(world.store.rows.events) == 20 * 50 - len(taken)


async def test_an_outage_is_ridden_out(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        with world.store.faults.outage():
            await trio.sleep(30)
        await world.store.cancel_run("acme", attempt.fence.run_id)
        with trio.fail_after(1):
            await attempt.ctx.cancelled.wait()


async def test_the_drain_answers_waiters_at_once(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)
    watch, answers = Watch("acme", attempt.fence.run_id), list[Run | None]()

    async def wait() -> None:
        answers.append(await world.board.wait_terminal(watch, Status.PROCESSING))

    async with following(world) as nursery:
        nursery.start_soon(wait)
        await trio.sleep(0.1)
        world.stopping.begin("SIGTERM")
        await wait_all_tasks_blocked()

    assert answers == [None]


async def test_a_bug_is_not_taken_for_an_outage(autojump_clock: MockClock) -> None:
    world = World()
    await executing(world)
    world.store.faults.fail("follow", Fault(ValueError("a bug")))

    error: BaseException | None = None
    try:
        with trio.fail_after(10):
            await world.follow()
    except* ValueError as group:
        error = group

    assert error is not None
    assert not isinstance(error, StoreUnavailable)
