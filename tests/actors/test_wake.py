from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors.wake import Wake, when


async def test_rings_coalesce_and_are_taken_by_one_wait(autojump_clock: MockClock) -> None:
    wake = Wake()
    wake.ring()
    wake.ring()

    assert await wake.wait(5)
    assert not await wake.wait(5)
    assert trio.current_time() == 5


async def test_a_ring_ends_the_wait(autojump_clock: MockClock) -> None:
    wake = Wake()
    rung: list[bool] = []

    async def wait() -> None:
        rung.append(await wake.wait(60))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(2)
        wake.ring()

    assert rung == [True]
    assert trio.current_time() == 2


async def test_a_cancelled_wait_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    wake = Wake()
    with trio.move_on_after(1):
        await wake.wait(60)

    wake.ring()

    assert await wake.wait(60)
    assert trio.current_time() == 1


async def test_when_calls_once_the_event_is_there() -> None:
    event, wake = trio.Event(), Wake()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(when, event, wake.ring)
        await wait_all_tasks_blocked()
        event.set()

    assert await wake.wait(0)
