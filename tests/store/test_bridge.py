"""The bridge: what is handed over runs to its end, whatever becomes of who asked."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the bridge's thread runs it
import gc
import threading
from functools import partial

import pytest
import trio
import trio.testing

from dpp.faults import StoreUnavailable
from dpp.store import bridge as module
from dpp.store.bridge import Bridge, BridgeDied, open_bridge
from dpp.store.desk import Sizes
from dpp.store.postgres import open_postgres
from tests.conftest import LIMITS, Database
from tests.store.sessions import SOON_S, start


async def test_results_and_errors_come_back_from_another_thread(bridge: Bridge) -> None:
    async def thread() -> str:
        return threading.current_thread().name

    async def fail() -> None:
        raise LookupError("as it was raised")

    assert await bridge.run(thread) == "dpp-bridge"
    with pytest.raises(LookupError, match="as it was raised"):
        await bridge.run(fail)


async def test_a_cancelled_caller_goes_at_once_and_the_operation_ends(bridge: Bridge) -> None:
    begun, let_go, ended = trio.Event(), asyncio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    async def operation() -> None:
        token.run_sync_soon(begun.set)
        await let_go.wait()
        token.run_sync_soon(ended.set)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.run, operation)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert not ended.is_set()

    async def release() -> None:
        let_go.set()

    await bridge.run(release)
    with trio.fail_after(SOON_S):
        await ended.wait()


async def test_an_error_that_nobody_waits_for_harms_nobody(bridge: Bridge) -> None:
    let_go = asyncio.Event()

    async def operation() -> None:
        await let_go.wait()
        raise LookupError("into the void")

    async def release() -> None:
        let_go.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.run, operation)
        await bridge.run(partial(asyncio.sleep, 0))
        nursery.cancel_scope.cancel()
    await bridge.run(release)

    assert await bridge.run(partial(asyncio.sleep, 0, "fine")) == "fine"


async def test_too_much_in_flight_is_refused_before_it_begins(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_MAX", 2)
    let_go, begun = asyncio.Event(), []

    async def operation() -> int:
        begun.append(1)
        await let_go.wait()
        return len(begun)

    async def release() -> None:
        let_go.set()

    async with trio.open_nursery() as nursery:
        running = [start(nursery, partial(bridge.run, operation)) for _ in range(2)]
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(StoreUnavailable):
            await bridge.run(operation)
        await bridge.knock()  # full is not dead
        monkeypatch.undo()
        await bridge.run(release)
        assert [await one.result() for one in running] == [2, 2]

    assert len(begun) == 2


async def test_a_knock_is_not_answered_while_the_thread_stands_still(bridge: Bridge) -> None:
    go_on, stands = threading.Event(), threading.Event()

    async def stand_still() -> None:
        stands.set()
        go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.run, stand_still)
        await trio.to_thread.run_sync(stands.wait)
        with trio.move_on_after(0.1) as waiting:
            await bridge.knock()
        go_on.set()
        with trio.fail_after(30):
            await bridge.knock()

    assert waiting.cancelled_caught


async def test_a_closed_bridge_starts_nothing() -> None:
    async with open_bridge() as closed:
        pass

    with pytest.raises(StoreUnavailable):
        await closed.run(partial(asyncio.sleep, 0))


async def test_a_bridge_that_dies_says_so_and_starts_nothing() -> None:
    async with open_bridge() as dying:

        async def stop() -> None:
            asyncio.get_running_loop().stop()

        async with trio.open_nursery() as nursery:
            watching = start(nursery, dying.watch)
            nursery.start_soon(dying.run, stop)
            with pytest.raises(BridgeDied):
                await watching.result()
            nursery.cancel_scope.cancel()

        with pytest.raises(StoreUnavailable):
            await dying.run(partial(asyncio.sleep, 0))


async def test_what_is_in_flight_at_the_end_is_left_without_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_bridge() as closing, trio.open_nursery() as nursery:
        nursery.start_soon(closing.run, partial(asyncio.sleep, 1000))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    del closing
    gc.collect()

    assert caplog.records == []


async def test_a_connection_that_is_being_made_at_the_end_is_made_and_closed(
    database: Database,
) -> None:
    """Left in the middle, it would keep a handle, and the loop could not be closed."""
    async with open_bridge() as bridge:
        opened = open_postgres(
            bridge, database.address(), database.address("dpp_audit"), Sizes.of(8), LIMITS
        )
        async with opened as store, trio.open_nursery() as asking:
            asking.start_soon(store.ping)
            await trio.lowlevel.checkpoint()
            asking.cancel_scope.cancel(reason="gone at once")

    assert bridge._in_flight == 0
    assert bridge._loop.is_closed()
