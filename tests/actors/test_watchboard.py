from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors import watchboard
from dpp.actors.watchboard import Stream, Watchboard
from dpp.chronicles import Bookmark, Told, parse
from dpp.ports import Watching
from dpp.runs import Run, Status
from dpp.watches import Changes, Watch
from tests.actors.world import World, asked

NOW = datetime(2026, 1, 1, tzinfo=UTC)


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


def read(*runs: Run, told: tuple[Told, ...] = (), cut: bool = False) -> Changes:
    """Return what the follower reads of these runs; they ended long ago, where they did."""
    of = frozenset(run.run_id for run in runs) if cut else frozenset()
    return Changes((), runs, told, of, NOW)


def told(run: Run, *numbers: int, epoch: int = 1) -> tuple[Told, ...]:
    return tuple(Told(run.run_id, epoch, n, "progress", fraction=0.5, note="") for n in numbers)


def working(run: Run, epoch: int = 1) -> Run:
    return evolve(run, status=Status.PROCESSING, lease_epoch=epoch)


def ended(run: Run, *, ago_s: float = 60) -> Run:
    finished_at = NOW - timedelta(seconds=ago_s)
    return evolve(run, status=Status.COMPLETED, lease_epoch=1, finished_at=finished_at)


async def ids(stream: Stream) -> list[str]:
    """Take what waits for a stream, which is there or it is over."""
    with trio.fail_after(1):
        return [str(one.position) for one in await stream.news()]


def join(board: Watchboard, run: Run, after: str = "0.queued") -> Stream:
    position = parse(after)
    assert position is not None
    stream = board.join(watch_of(run), Bookmark(position))
    assert stream is not None
    return stream


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
        board.publish(read(run), ())

    assert watching == [watch_of(run)]
    assert answers == [run] * 5
    assert board.watching() == []


async def test_a_run_that_goes_on_answers_nobody(autojump_clock: MockClock) -> None:
    board, run, answers = new_board(), await some_run(), list[Run | None]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), answers)
        await wait_all_tasks_blocked()
        board.publish(read(evolve(run, status=Status.PROCESSING)), ())
        await wait_all_tasks_blocked()
        assert answers == []
        board.publish(read(run), ())

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
        board.publish(read(run), ())

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


async def test_streams_of_one_run_share_a_feed_and_are_told_the_same(
    autojump_clock: MockClock,
) -> None:
    board, run = new_board(), await some_run()
    first, second = join(board, run), join(board, run, "1.1")

    _, asked_for = board.question()
    board.publish(read(working(run), told=told(run, 1, 2)), ())
    board.question()
    board.publish(read(ended(run), told=told(run, 3)), ())

    assert asked_for == [evolve(watch_of(run), after=parse("0.queued"))]
    assert await ids(first) == ["1.0", "1.1", "1.2", "1.3", "1.end"]
    assert await ids(second) == ["1.0", "1.1", "1.2", "1.3", "1.end"]  # its reader drops doubles
    assert board.watching() == []


async def test_stream_that_joins_hears_how_far_the_feed_is(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()
    first = join(board, run)
    board.question()
    board.publish(read(working(run), told=told(run, 1, 2)), ())

    second = join(board, run)

    assert (str(first.reached), str(second.reached)) == ("0.queued", "1.2")


async def test_answer_to_an_older_question_leaves_no_gap(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), [])
        await wait_all_tasks_blocked()
        board.question()  # without events: nobody streams yet
        stream = join(board, run)
        board.publish(read(ended(run)), ())  # else the end would come before 1.1
        assert await board.wake.wait(0)  # and it is asked again at once
        board.question()
        board.publish(read(ended(run), told=told(run, 1)), ())

    assert await ids(stream) == ["1.0", "1.1", "1.end"]


async def test_feed_that_was_joined_anew_heeds_no_answer_to_the_one_before(
    autojump_clock: MockClock,
) -> None:
    board, run = new_board(), await some_run()
    first = join(board, run, "1.5")
    board.question()
    first.leave()
    stream = join(board, run, "1.2")

    board.publish(read(working(run), told=told(run, 6)), ())
    board.question()
    board.publish(read(working(run), told=told(run, 3, 6)), ())

    assert await ids(stream) == ["1.3", "1.6"]


async def test_end_waits_for_what_this_node_has_not_sent(autojump_clock: MockClock) -> None:
    board, run, answers = new_board(), await some_run(), list[Run | None]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), answers)
        await wait_all_tasks_blocked()
        stream = join(board, run)
        board.ended(run.run_id)
        await board.wake.wait(0)
        board.question()
        board.publish(read(ended(run, ago_s=0)), {run.run_id})
        await wait_all_tasks_blocked()
        assert answers == []
        assert await board.wake.wait(0)
        board.question()
        board.publish(read(ended(run, ago_s=0), told=told(run, 1)), ())

    assert answers == [ended(run, ago_s=0)]
    assert await ids(stream) == ["1.0", "1.1", "1.end"]


async def test_end_of_another_nodes_run_waits_a_moment_for_streams_alone(
    autojump_clock: MockClock,
) -> None:
    board, run, answers = new_board(), await some_run(), list[Run | None]()
    just, later = ended(run, ago_s=0.1), ended(run, ago_s=0.8)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, board, watch_of(run), answers)
        await wait_all_tasks_blocked()
        stream = join(board, run)
        board.question()
        board.publish(read(just), ())

    assert answers == [just]
    assert await ids(stream) == ["1.0"]
    assert await board.wait_terminal(watch_of(run), Status.QUEUED) == just
    board.question()
    board.publish(read(later, told=told(run, 4)), ())
    assert await ids(stream) == ["1.4", "1.end"]


async def test_page_that_was_cut_is_followed_by_the_next_at_once(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()
    stream = join(board, run)

    board.question()
    board.publish(read(ended(run), told=told(run, 1, 2), cut=True), ())
    rung = await board.wake.wait(0)
    _, asked_for = board.question()
    board.publish(read(ended(run)), ())

    assert rung
    assert asked_for == [evolve(watch_of(run), after=parse("1.2"))]
    assert await ids(stream) == ["1.0", "1.1", "1.2", "1.end"]


async def test_stream_that_takes_too_little_is_ended_and_others_are_not(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchboard, "BUFFER_MAX", 3)
    board, run = new_board(), await some_run()
    slow, quick = join(board, run, "1.0"), join(board, run, "1.0")
    got: list[str] = []

    for n in range(1, 9):
        board.question()
        board.publish(read(working(run), told=told(run, n)), ())
        got += await ids(quick)

    assert got == [f"1.{n}" for n in range(1, 9)]
    assert await ids(slow) == []
    assert await ids(slow) == []


async def test_nobody_is_asked_for_once_all_streams_have_left(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()
    first, second = join(board, run), join(board, run)

    first.leave()
    _, left_one = board.question()
    second.leave()

    assert [watch.run_id for watch in left_one] == [run.run_id]
    assert board.watching() == []


async def test_streams_end_at_the_drain_and_none_begins(autojump_clock: MockClock) -> None:
    board, run = new_board(), await some_run()
    stream = join(board, run)
    board.question()
    board.publish(read(working(run)), ())

    board.close()

    assert await ids(stream) == ["1.0"]
    assert await ids(stream) == []
    assert board.join(watch_of(run), Bookmark()) is None


async def test_stream_of_a_run_that_ended_here_is_not_left_to_the_poll(
    autojump_clock: MockClock,
) -> None:
    board, run = new_board(), await some_run()
    board.ended(run.run_id)
    assert not await board.wake.wait(0)

    join(board, run)

    assert await board.wake.wait(0)


async def test_a_prompt_question_is_about_what_was_heard_of_alone(
    autojump_clock: MockClock,
) -> None:
    executed, heard_of = uuid4(), uuid4()
    board, run, other = new_board(executed, heard_of), await some_run(), await some_run()
    join(board, run)
    join(board, other)

    board.ended(run.run_id)
    board.hint(heard_of)
    prompt = board.question([executed, heard_of], whole=False)
    nothing = board.question([executed, heard_of], whole=False)
    whole = board.question([executed, heard_of])

    assert prompt == ([heard_of], [evolve(watch_of(run), after=parse("0.queued"))])
    assert nothing == ([], [])
    assert whole[0] == [executed, heard_of]
    assert {watch.run_id for watch in whole[1]} == {run.run_id, other.run_id}


def many(board: Watchboard, runs: int) -> list[UUID]:
    """Stream so many runs."""
    run_ids = [uuid4() for _ in range(runs)]
    for run_id in run_ids:
        assert board.join(Watch("acme", run_id), Bookmark()) is not None
    return run_ids


def test_many_watches_are_asked_for_in_slices_each_once_a_round() -> None:
    board = new_board()
    run_ids = many(board, 2 * watchboard.SLICE + 10)

    slices = [board.question(whole=whole)[1] for whole in (True, False, True, False)]

    assert [len(one) for one in slices] == [watchboard.SLICE, watchboard.SLICE, 10, 0]
    assert [watch.run_id for one in slices for watch in one] == run_ids


async def test_next_slice_is_wanted_at_once_and_nothing_after_the_last(
    autojump_clock: MockClock,
) -> None:
    board = new_board()
    many(board, 2 * watchboard.SLICE)

    board.question()
    after_first = await board.wake.wait(0)
    board.question(whole=False)
    after_last = await board.wake.wait(0)

    assert (after_first, after_last) == (True, False)


def test_run_that_is_heard_of_comes_with_the_next_slice_and_once() -> None:
    board = new_board()
    run_ids = many(board, 3 * watchboard.SLICE)
    last, first = run_ids[-1], run_ids[0]

    board.question()
    board.hint(last)
    board.hint(first)
    _, second = board.question(whole=False)

    asked_for = [watch.run_id for watch in second]
    assert {*asked_for[:2]} == {first, last}
    assert len(asked_for) == len({*asked_for}) == watchboard.SLICE


def test_more_news_than_a_slice_holds_is_asked_for_by_the_next() -> None:
    board = new_board()
    run_ids = many(board, watchboard.SLICE + 5)
    for run_id in run_ids:
        board.hint(run_id)

    slices = [board.question(whole=False)[1] for _ in range(3)]

    assert [len(one) for one in slices] == [watchboard.SLICE, 5, 0]
    assert {watch.run_id for one in slices for watch in one} == {*run_ids}


def test_watch_that_ends_within_a_round_is_not_asked_for() -> None:
    board = new_board()
    many(board, watchboard.SLICE)
    stream = board.join(Watch("acme", uuid4()), Bookmark())
    assert stream is not None

    board.question()
    stream.leave()

    assert board.question(whole=False) == ([], [])


def test_news_of_this_node_is_told_to_the_others_and_what_they_tell_is_not() -> None:
    told: list[UUID] = []
    here, ended, asked, heard = (uuid4() for _ in range(4))
    board = Watchboard(lambda run_id: run_id == here, told.append)

    board.ended(ended)
    board.hint(asked)
    board.heard(heard)
    board.heard(here)

    assert told == [ended, asked]
    assert board.question([here], whole=False) == ([here], [])
