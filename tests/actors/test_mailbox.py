from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors.mailbox import GATHER_S, QUIET_TURNS, Call, Mailbox, Waiter
from dpp.faults import StoreUnavailable


async def answer_all(mailbox: Mailbox[int, str], batch_max: int, batches: list[int]) -> None:
    while calls := await mailbox.take(batch_max):
        batches.append(len(calls))
        for call in calls:
            call.answer(f"answer to {call.request}")


async def ask(mailbox: Mailbox[int, str], request: int, answers: list[str]) -> None:
    answers.append(await mailbox.ask(request))


async def test_each_asker_gets_its_own_answer() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)
    answers: list[str] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, mailbox, 10, [])
        async with trio.open_nursery() as asking:
            for n in range(30):
                asking.start_soon(ask, mailbox, n, answers)
        mailbox.close()

    assert sorted(answers) == sorted(f"answer to {n}" for n in range(30))


async def test_what_came_meanwhile_is_the_next_batch() -> None:
    mailbox: Mailbox[int, str] = Mailbox(100)
    batches: list[int] = []

    async with trio.open_nursery() as nursery:
        for n in range(25):
            nursery.start_soon(ask, mailbox, n, [])
        await wait_all_tasks_blocked()
        nursery.start_soon(answer_all, mailbox, 10, batches)
        await wait_all_tasks_blocked()
        mailbox.close()

    assert batches == [10, 10, 5]


@pytest.mark.parametrize(("turns", "batches"), [(1, [8]), (2 * QUIET_TURNS + 2, [1] * 8)])
async def test_calls_that_come_turn_after_turn_are_one_batch(
    turns: int, batches: list[int]
) -> None:
    mailbox: Mailbox[int, str] = Mailbox(100)
    found: list[int] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, mailbox, 100, found)
        await wait_all_tasks_blocked()
        for n in range(8):
            mailbox.put([Call(n, Waiter(1))])
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        mailbox.close()

    assert found == batches


async def test_calls_that_never_cease_are_waited_for_only_so_long(mock_clock: MockClock) -> None:
    """Else a flood that brings one call each turn would grow into the largest batch."""
    mailbox: Mailbox[int, str] = Mailbox(100)
    found: list[int] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, mailbox, 100, found)
        await wait_all_tasks_blocked()
        for n in range(40):
            mailbox.put([Call(n, Waiter(1))])
            await trio.lowlevel.checkpoint()
            mock_clock.jump(GATHER_S / 10)
        await wait_all_tasks_blocked()
        mailbox.close()

    assert sum(found) == 40
    assert max(found) < 15  # ten, and what comes in the turns at both ends


def weigh(request: int) -> int:
    return request


@pytest.mark.parametrize(
    ("requests", "batches"),
    [
        ([4, 4, 4, 4, 4], [2, 2, 1]),
        ([3, 3, 4, 10, 1], [3, 1, 1]),  # up to the bound, not over it
        ([99, 1, 1], [1, 2]),  # what is too large for any batch is one of its own
        ([1, 99, 1], [1, 1, 1]),
        ([0] * 9, [5, 4]),  # and the bound in calls holds as well
    ],
)
async def test_a_batch_is_bounded_by_what_its_calls_weigh(
    requests: list[int], batches: list[int]
) -> None:
    mailbox: Mailbox[int, str] = Mailbox(100, weigh)
    taken: list[list[int]] = []

    async with trio.open_nursery() as nursery:
        for request in requests:
            nursery.start_soon(ask, mailbox, request, [])
            await wait_all_tasks_blocked()
        mailbox.close()
        while calls := await mailbox.take(5, 10):
            taken.append([call.request for call in calls])
            for call in calls:
                call.answer("done")

    assert [len(batch) for batch in taken] == batches
    assert [request for batch in taken for request in batch] == requests


async def test_what_one_taker_must_leave_wakes_the_next() -> None:
    mailbox: Mailbox[int, str] = Mailbox(100, weigh)
    batches: list[int] = []

    async def take_one() -> None:
        calls = await mailbox.take(5, 10)
        batches.append(len(calls))
        for call in calls:
            call.answer("done")

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_one)
            nursery.start_soon(take_one)
            await wait_all_tasks_blocked()
            await mailbox.ask_all_nowait([8, 8])

    assert batches == [1, 1]


async def test_full_refuses_who_does_not_wait() -> None:
    mailbox: Mailbox[int, str] = Mailbox(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, mailbox, 1, [])
        await wait_all_tasks_blocked()

        with pytest.raises(StoreUnavailable):
            await mailbox.ask_nowait(2)

        assert len(mailbox) == 1
        (call,) = await mailbox.take(10)
        call.answer("done")


async def test_full_lets_others_wait_for_a_place() -> None:
    mailbox: Mailbox[int, str] = Mailbox(1)
    answers: list[str] = []

    async with trio.open_nursery() as nursery:
        for n in range(3):
            nursery.start_soon(ask, mailbox, n, answers)
        await wait_all_tasks_blocked()
        assert len(mailbox) == 1
        nursery.start_soon(answer_all, mailbox, 10, [])
        await wait_all_tasks_blocked()
        mailbox.close()

    assert len(answers) == 3


async def test_closing_refuses_new_calls_and_gives_out_the_old() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)
    answers: list[str] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, mailbox, 1, answers)
        await wait_all_tasks_blocked()
        mailbox.close()

        with pytest.raises(StoreUnavailable):
            await mailbox.ask(2)
        with pytest.raises(StoreUnavailable):
            await mailbox.ask_nowait(3)

        (call,) = await mailbox.take(10)
        call.answer("kept")
        assert await mailbox.take(10) == []

    assert answers == ["kept"]


async def test_closing_wakes_who_waits_for_a_place_and_who_takes() -> None:
    mailbox: Mailbox[int, str] = Mailbox(1)
    taken: list[object] = []

    async def refused() -> None:
        with pytest.raises(StoreUnavailable):
            await mailbox.ask(2)

    async def take_two() -> None:
        taken.extend([await mailbox.take(5), await mailbox.take(5)])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, mailbox, 1, [])
        await wait_all_tasks_blocked()
        nursery.start_soon(refused)
        await wait_all_tasks_blocked()
        mailbox.close()
        await wait_all_tasks_blocked()
        nursery.start_soon(take_two)
        await wait_all_tasks_blocked()
        (calls, nothing) = taken
        assert nothing == []
        assert isinstance(calls, list)
        calls[0].answer("the last")


async def test_a_dropped_call_is_an_outage_to_its_asker() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)

    async def dropped() -> None:
        with pytest.raises(StoreUnavailable):
            await mailbox.ask(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dropped)
        (call,) = await mailbox.take(10)
        call.drop()
        call.drop()  # nothing happens


async def test_an_answered_call_cannot_be_dropped() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)
    answers: list[str] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, mailbox, 1, answers)
        (call,) = await mailbox.take(10)
        call.answer("first")
        call.drop()
        call.fail(RuntimeError("late"))

    assert answers == ["first"]


async def test_a_bug_is_raised_in_its_asker() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)

    async def failed() -> None:
        with pytest.raises(ZeroDivisionError):
            await mailbox.ask(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(failed)
        (call,) = await mailbox.take(10)
        call.fail(ZeroDivisionError())


async def test_an_asker_that_goes_leaves_its_call() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, mailbox, 1, [])
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    (call,) = await mailbox.take(10)
    call.answer("to nobody")
    assert call.request == 1


async def test_a_cancelled_take_takes_nothing() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, mailbox, 1, [])
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await mailbox.take(10)

        assert scope.cancelled_caught
        assert len(mailbox) == 1
        nursery.cancel_scope.cancel()


async def test_a_taker_that_was_woken_for_nothing_waits_on() -> None:
    mailbox: Mailbox[int, str] = Mailbox(10)
    batches: list[int] = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, mailbox, 10, batches)
        nursery.start_soon(answer_all, mailbox, 10, batches)
        await wait_all_tasks_blocked()
        for n in range(4):
            await mailbox.ask(n)
        mailbox.close()

    assert batches == [1, 1, 1, 1]


async def test_a_batch_is_waited_for_once_and_cut_at_the_bound() -> None:
    mailbox: Mailbox[int, str] = Mailbox(3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_all, mailbox, 10, [])
        await wait_all_tasks_blocked()
        calls = await mailbox.ask_all_nowait(range(5))
        mailbox.close()

    assert [call.result() for call in calls[:3]] == ["answer to 0", "answer to 1", "answer to 2"]
    for call in calls[3:]:
        with pytest.raises(StoreUnavailable):
            call.result()


async def test_abandoning_answers_everyone() -> None:
    mailbox: Mailbox[int, str] = Mailbox(2)
    refused: list[int] = []

    async def ask_in_vain(n: int) -> None:
        with pytest.raises(StoreUnavailable):
            await mailbox.ask(n)
        refused.append(n)

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(ask_in_vain, n)
        await wait_all_tasks_blocked()
        mailbox.abandon()

    assert sorted(refused) == [0, 1, 2, 3, 4]
