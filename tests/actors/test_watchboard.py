from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors import watchboard
from dpp.actors.watchboard import Watchboard
from dpp.ports import Watching
from dpp.runs import Run, Status
from dpp.watches import Watch
from tests.actors.world import World, asked


def new_board(*executing: UUID) -> Watchboard:
    return Watchboard(lambda run_id: run_id in executing)


def as_port(board: Watchboard) -> Watching:
    return board


async def some_run(status: Status = Status.COMPLETED) -> Run:
    world = World()
    await world.tenant()
    submission = asked()
    await world.store.submit_runs([submission], wait=True)
    return evolve(world.run(submission.run_id), status=status)


def watch_of(run: Run) -> Watch:
    return Watch(run.tenant_id, run.run_id)


async def wait(board: Watchboard, watch: Watch, into: list[Run | None]) -> None:
    into.append(await as_port(board).wait_terminal(watch, Status.QUEUED))


async def test_many_waiters_are_one_question_and_all_are_answered(
    autojump_clock: MockClock,
) -> None:
    board, run, answers = new_board(), await some_run(), list[Run | None]()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(wait, board, watch_of(run), answers)
        await wait_all_tasks_blocked()
        watching = board.watching()
        board.publish([run])

    assert watching == [watch_of(run)]
    assert answers == [run] * 5
    assert board.watching() == []


async def test_a_run_that_goes_on_answers_nobody(autojump_clock: MockClock) -> None:
    board, run, answers = new_board(), await some_run(), list[Run | None]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), answers)
        await wait_all_tasks_blocked()
        board.publish([evolve(run, status=Status.PROCESSING)])
        await wait_all_tasks_blocked()
        assert answers == []
        board.publish([run])

    assert answers == [run]


async def test_a_waiter_that_goes_is_no_longer_asked_for(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()

    with trio.move_on_after(1):
        await board.wait_terminal(watch_of(run), Status.QUEUED)

    assert board.watching() == []


async def test_one_waiter_of_two_may_go(autojump_clock: MockClock) -> None:
    board, run, answers = new_board(), await some_run(), list[Run | None]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), answers)
        with trio.move_on_after(1):
            await board.wait_terminal(watch_of(run), Status.QUEUED)
        assert board.watching() == [watch_of(run)]
        board.publish([run])

    assert answers == [run]


async def test_the_drain_answers_everybody_with_none(autojump_clock: MockClock) -> None:
    board, run, answers = new_board(), await some_run(), list[Run | None]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), answers)
        await wait_all_tasks_blocked()
        board.close()

    assert answers == [None]
    assert await board.wait_terminal(watch_of(run), Status.QUEUED) is None


async def test_who_waits_after_the_end_is_not_left_to_the_poll(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()
    board.ended(run.run_id)
    assert not await board.wake.wait(0)

    with trio.move_on_after(1):
        await board.wait_terminal(watch_of(run), Status.QUEUED)

    assert await board.wake.wait(0)


async def test_only_what_concerns_this_node_wakes_the_follower(autojump_clock: MockClock) -> None:
    run = await some_run()
    executed = uuid4()
    board = new_board(executed)

    async def rings(run_id: UUID, tell: str) -> bool:
        getattr(board, tell)(run_id)
        return await board.wake.wait(0)

    assert not await rings(uuid4(), "hint")
    assert not await rings(uuid4(), "ended")
    assert await rings(executed, "hint")
    assert not await rings(executed, "ended")  # each run of this node ends; few are waited for
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), [])
        await wait_all_tasks_blocked()
        assert await rings(run.run_id, "hint")
        assert await rings(run.run_id, "ended")
        nursery.cancel_scope.cancel()


async def test_memory_is_bounded(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchboard, "WATCHED_MAX", 2)
    monkeypatch.setattr(watchboard, "CHANGED_MAX", 3)
    board, answers = new_board(), list[Run | None]()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait, board, Watch("acme", uuid4()), answers)
        await wait_all_tasks_blocked()
        assert answers == [None]
        for _ in range(9):
            board.ended(uuid4())
        assert len(board._changed) == 3
        nursery.cancel_scope.cancel()


async def test_nobody_joins_the_watch_of_another_tenant(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), [])
        await wait_all_tasks_blocked()

        assert await board.wait_terminal(Watch("globex", run.run_id), Status.QUEUED) is None

        nursery.cancel_scope.cancel()
