from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors import attempts as attempts_module
from dpp.actors import follower as module
from dpp.actors import watchboard
from dpp.actors.attempts import Attempt
from dpp.chronicles import LATE, Bookmark, Happening
from dpp.claims import Claim, Claimed, Turn
from dpp.faults import StoreUnavailable
from dpp.leases import NodeLease
from dpp.money import Micros
from dpp.runs import Run, Status
from dpp.settlement import Completed, End
from dpp.watches import Changes, RunEvent, Watch
from tests.actors.world import PLANS, World, asked
from tests.fake_faults import Fault
from tests.fake_store import FakeStore


async def executing(world: World, runs: int = 1) -> list[Attempt]:
    """Claim runs and register them, as if they were in work here."""
    await world.tenant()
    await world.store.submit_runs([asked() for _ in range(runs)], wait=True)
    lease = NodeLease(uuid4(), world.node_id)
    await world.store.take_lease(lease, lease_s=3000, hand_back=())
    turns = (Turn("acme", runs),)
    claimed = await world.store.claim_runs(Claim(lease=lease, turns=turns, packs=("echo",)))
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


class Weary(FakeStore):
    """Takes a second for five slices of watches, and gives up those that would take longer."""

    async def follow(
        self, executing: Sequence[UUID], watching: Sequence[Watch], events: Sequence[RunEvent]
    ) -> Changes:
        needs_s = len(watching) / (5 * watchboard.SLICE)
        await trio.sleep(min(1.0, needs_s))
        if needs_s > 1:
            raise StoreUnavailable("canceling statement due to statement timeout")
        return await super().follow(executing, watching, events)


async def test_more_watches_than_a_question_bears_keep_nobody_waiting_for_all_of_them(
    autojump_clock: MockClock,
) -> None:
    world = World(Weary(PLANS))
    (attempt,) = await executing(world)
    watch, answers = Watch("acme", attempt.fence.run_id), list[Run | None]()

    async def wait() -> None:
        answers.append(await world.board.wait_terminal(watch, Status.PROCESSING))

    for _ in range(watchboard.WATCHED_MAX - 1):
        assert world.board.join(Watch("acme", uuid4()), Bookmark()) is not None
    async with following(world) as nursery:
        nursery.start_soon(wait)
        await trio.sleep(10.1)
        assert answers == []
        await end(world, attempt.claimed)
        world.board.ended(attempt.fence.run_id)
        await trio.sleep(0.45)  # the slice that is being asked for, and the next

    assert answers == [world.run(attempt.fence.run_id)]


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


def ids(news: Sequence[Happening]) -> list[str]:
    return [str(one.position) for one in news]


def stored(world: World) -> list[tuple[int, int]]:
    """Return epoch and number of all that is stored, in order."""
    return sorted((epoch, n) for _, epoch, n in world.store.rows.events)


async def test_what_an_attempt_tells_last_is_stored_after_its_end(
    autojump_clock: MockClock,
) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        await trio.sleep(10.1)  # the follower has looked, and looks again in 0.4 s
        attempt.ctx.progress(0.5, "half")
        await attempt.ctx.charge(Micros(70), "a step")
        await end(world, attempt.claimed)
        world.attempts.remove(attempt)
        await trio.sleep(0.55)

    assert stored(world) == [(1, 1), (1, 2)]
    assert world.attempts.untold() == frozenset()


async def test_streams_hear_the_last_events_before_the_end(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)
    got: list[str] = []

    async with following(world) as nursery:
        stream = world.board.join(Watch("acme", attempt.fence.run_id), Bookmark())
        assert stream is not None

        async def listen() -> None:
            while news := await stream.news():
                got.extend(ids(news))

        nursery.start_soon(listen)
        await trio.sleep(10.1)
        attempt.ctx.progress(0.5, "half")
        await end(world, attempt.claimed)
        attempt.ctx.progress(1.0, "told after the settlement was asked for")
        world.board.ended(attempt.fence.run_id)
        world.attempts.remove(attempt)
        await trio.sleep(0.02)

    assert got == ["0.queued", "1.0", "1.1", "1.2", "1.end"]


async def test_events_told_while_the_question_is_open_come_before_the_end(
    autojump_clock: MockClock,
) -> None:
    world = World()
    (attempt,) = await executing(world)
    got: list[str] = []

    async with following(world) as nursery:
        stream = world.board.join(Watch("acme", attempt.fence.run_id), Bookmark())
        assert stream is not None

        async def listen() -> None:
            while news := await stream.news():
                got.extend(ids(news))

        nursery.start_soon(listen)
        await trio.sleep(10.1)
        world.store.faults.fail("follow", Fault(before_s=0.2))  # asked, and answered later
        world.board.hint(attempt.fence.run_id)
        await trio.sleep(0.1)
        attempt.ctx.progress(1.0, "after the outboxes were emptied")
        await end(world, attempt.claimed)
        world.board.ended(attempt.fence.run_id)
        world.attempts.remove(attempt)
        await trio.sleep(0.2)

    assert got == ["0.queued", "1.0", "1.1", "1.end"]


async def test_answer_that_was_lost_doubles_nothing(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    async with following(world):
        world.store.faults.fail("follow", Fault(StoreUnavailable("lost"), after=True))
        await attempt.ctx.charge(Micros(70), "a step")
        await trio.sleep(3)

    assert stored(world) == [(1, 1)]


async def test_finishing_waits_for_what_the_last_attempts_told(autojump_clock: MockClock) -> None:
    world = World()
    attempts = await executing(world, runs=3)

    async with following(world):
        await trio.sleep(10.1)
        for attempt in attempts:
            attempt.ctx.progress(1.0, "done")
            await end(world, attempt.claimed)
            world.attempts.remove(attempt)
        with trio.fail_after(0.1):
            await world.board.finish()

    assert stored(world) == [(1, 1)] * 3


async def test_outboxes_of_attempts_that_are_over_are_bounded(autojump_clock: MockClock) -> None:
    world = World()
    (attempt,) = await executing(world)

    for n in range(attempts_module.LEFT_MAX + 5):
        attempt.ctx.progress(0.5, str(n))
        world.attempts.remove(attempt)
        world.attempts.add(attempt)

    kept = list(world.attempts.outboxes())
    assert len(kept) == attempts_module.LEFT_MAX
    assert kept[0].events[0].note == "5"


async def test_end_elsewhere_reaches_streams_soon_after_it_is_sealed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    (attempt,) = await executing(world)
    world.attempts.remove(attempt)  # as if another node had it
    got: list[tuple[str, float]] = []

    async with following(world) as nursery:
        stream = world.board.join(Watch("acme", attempt.fence.run_id), Bookmark())
        assert stream is not None

        async def listen() -> None:
            while news := await stream.news():
                got.extend((one, trio.current_time()) for one in ids(news))

        nursery.start_soon(listen)
        await trio.sleep(10.3)
        await end(world, attempt.claimed)
        ended_at = trio.current_time()
        await trio.sleep(1.5)

    last, told_at = got[-1]
    assert last == "1.end"
    waited_s = told_at - ended_at + 1e-6
    assert LATE.total_seconds() <= waited_s < LATE.total_seconds() + 2 * module.SOON_S
