from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dpp.actors.hourglass import Hourglass
from dpp.actors.mailbox import Mailbox, Waiter
from dpp.faults import Unanswered

if TYPE_CHECKING:
    from trio.testing import MockClock

WAIT_S = 8.0


class Askers:
    """Ask a mailbox, each with a wait of its own, and note when it was over and how."""

    def __init__(self) -> None:
        self.hourglass = Hourglass(WAIT_S)
        self.mailbox: Mailbox[int, str] = Mailbox(100)
        self.over: dict[int, tuple[float, str]] = {}

    async def ask(self, n: int, after_s: float) -> None:
        await trio.sleep(after_s)
        waiter = Waiter(1)
        self.hourglass.turn(waiter)
        try:
            answer = await self.mailbox.ask_nowait(n, waiter)
        except Unanswered:
            answer = "unanswered"
        self.over[n] = (trio.current_time(), answer)


async def test_each_wait_ends_when_its_own_time_is_up(autojump_clock: MockClock) -> None:
    askers, began = Askers(), trio.current_time()
    starts = [0.0, 0.5, 7.9, 8.0, 30.0]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(askers.hourglass.run)
        async with trio.open_nursery() as asking:
            for n, start in enumerate(starts):
                asking.start_soon(askers.ask, n, start)
        nursery.cancel_scope.cancel()

    assert {n: at - began for n, (at, _) in askers.over.items()} == pytest.approx(
        {n: start + WAIT_S for n, start in enumerate(starts)}
    )
    assert {answer for _, answer in askers.over.values()} == {"unanswered"}
    assert len(askers.hourglass) == 0


async def test_what_is_answered_in_time_is_left_alone_and_forgotten(mock_clock: MockClock) -> None:
    askers = Askers()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(askers.hourglass.run)
        for n in range(50):
            nursery.start_soon(askers.ask, n, 0.0)
        await wait_all_tasks_blocked()
        for call in await askers.mailbox.take(50):
            call.answer(f"answer to {call.request}")
        mock_clock.jump(WAIT_S / 2)
        nursery.start_soon(askers.ask, 50, 0.0)
        await wait_all_tasks_blocked()
        held = len(askers.hourglass)
        mock_clock.jump(WAIT_S)
        await wait_all_tasks_blocked()
        mock_clock.jump(WAIT_S)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert held == 1
    said = {n: answer for n, (_, answer) in askers.over.items()}
    assert said == {n: f"answer to {n}" for n in range(50)} | {50: "unanswered"}


async def test_an_answer_that_comes_after_the_time_is_no_error(autojump_clock: MockClock) -> None:
    askers = Askers()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(askers.hourglass.run)
        await askers.ask(1, 0.0)
        (call,) = await askers.mailbox.take(10)
        call.answer("late")
        nursery.cancel_scope.cancel()

    assert call.result() == "late"
    assert askers.over[1][1] == "unanswered"


async def test_a_client_that_leaves_holds_nobody_up(autojump_clock: MockClock) -> None:
    askers = Askers()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(askers.hourglass.run)
        with trio.move_on_after(1):
            await askers.ask(1, 0.0)
        await askers.ask(2, 0.0)
        nursery.cancel_scope.cancel()

    assert askers.over[2][1] == "unanswered"
    assert len(askers.mailbox) == 2  # the intake has both
