"""Waiting for one tenant's row: in turn, bounded, and never on the last connections."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the bridge's thread runs it
from typing import TYPE_CHECKING

import pytest

from dpp.faults import StoreUnavailable
from dpp.store import patience as module
from dpp.store.patience import FREE_MIN, WAITERS_MAX, Patience
from tests.store.sessions import SOON_S

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from dpp.store.bridge import Bridge

MANY = FREE_MIN + 8  # connections: more than any test here has waiters for them


class Row:
    """Those who wait for places, on the bridge's loop. `entered` tells who got one, in order."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self.entered: list[str] = []
        self.refused: list[str] = []
        self.inside = 0
        self.inside_most = 0
        self.let_go = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    async def ask(self, name: str, tenant_id: str = "acme") -> None:
        """Start one that waits for a place and keeps it until `let_go`; return when it waits."""
        self.tasks.append(asyncio.create_task(self._wait(name, tenant_id)))
        await settled()

    async def _wait(self, name: str, tenant_id: str) -> None:
        try:
            async with self.patience.place(tenant_id):
                self.entered.append(name)
                self.inside += 1
                self.inside_most = max(self.inside, self.inside_most)
                await self.let_go.wait()
                await settled()
                self.inside -= 1
        except StoreUnavailable:
            self.refused.append(name)

    async def over(self) -> None:
        """Let everybody go, one after another."""
        self.let_go.set()
        await asyncio.gather(*self.tasks)


async def settled() -> None:
    """Let everybody who can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def offered(patience: Patience, tenant_id: str = "acme") -> bool:
    """Say whether a lane would get a place."""
    async with patience.try_place(tenant_id) as got:
        return got


async def on(bridge: Bridge, scene: Coroutine[Any, Any, None]) -> None:
    """Play a scene on the bridge's loop."""

    async def operation() -> None:
        await scene

    await bridge.run(operation)


async def test_one_waits_for_a_row_at_a_time_in_order_of_arrival(bridge: Bridge) -> None:
    async def scene() -> None:
        row = Row(Patience(MANY))
        names = [f"n{n}" for n in range(6)]
        for name in names:
            await row.ask(name)
        assert row.entered == ["n0"]
        await row.over()
        assert (row.entered, row.inside_most) == (names, 1)

    await on(bridge, scene())


async def test_who_comes_as_a_place_is_given_up_does_not_pass_those_before(bridge: Bridge) -> None:
    async def scene() -> None:
        row = Row(Patience(MANY))
        await row.ask("first")
        await row.ask("second")
        row.let_go.set()
        while row.inside:  # noqa: ASYNC110 - exactly then the second was told and has not woken yet
            await asyncio.sleep(0)
        assert row.entered == ["first"]
        await row.ask("late")
        await row.over()
        assert row.entered == ["first", "second", "late"]

    await on(bridge, scene())


async def test_a_bounded_number_waits_for_one_row(bridge: Bridge) -> None:
    async def scene() -> None:
        row = Row(Patience(MANY))
        for n in range(WAITERS_MAX + 3):
            await row.ask(str(n))
        await row.ask("another's", "other")
        assert row.refused == [str(WAITERS_MAX + n) for n in range(3)]
        assert row.entered == ["0", "another's"]
        await row.over()
        assert len(row.entered) == WAITERS_MAX + 1

    await on(bridge, scene())


async def test_a_lane_is_not_let_in_beside_somebody_of_its_tenant(bridge: Bridge) -> None:
    async def scene() -> None:
        row = Row(Patience(MANY))
        await row.ask("has it")
        assert [await offered(row.patience), await offered(row.patience, "other")] == [False, True]
        await row.over()
        assert await offered(row.patience)

    await on(bridge, scene())


async def test_the_last_connections_are_for_those_who_do_not_wait(bridge: Bridge) -> None:
    async def scene() -> None:
        row = Row(Patience(FREE_MIN + 2))
        for tenant_id in ("a", "b", "c", "d"):
            await row.ask(tenant_id, tenant_id)
        assert row.entered == ["a", "b"]
        assert not await offered(row.patience, "e")
        await row.over()
        assert (row.entered, row.inside_most) == (["a", "b", "c", "d"], 2)
        assert await offered(row.patience, "e")

    await on(bridge, scene())


async def test_however_few_connections_there_are_somebody_may_wait(bridge: Bridge) -> None:
    async def scene() -> None:
        assert await offered(Patience(1))

    await on(bridge, scene())


@pytest.mark.parametrize("behind", ["the row", "the places"])
async def test_who_waits_too_long_is_told_so_and_leaves_nothing_behind(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, behind: str
) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.01)

    async def scene() -> None:
        row = Row(Patience(FREE_MIN + 1))
        await row.ask("has it")
        await row.ask("in vain", "acme" if behind == "the row" else "other")
        await row.tasks[1]
        assert row.refused == ["in vain"]
        await row.over()
        assert [await offered(row.patience), await offered(row.patience, "other")] == [True, True]

    await on(bridge, scene())


async def test_who_gives_up_behind_the_places_lets_the_next_of_its_tenant_wait(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        row = Row(Patience(FREE_MIN + 1))
        await row.ask("has the place", "other")
        monkeypatch.setattr(module, "WAIT_S", 0.01)
        await row.ask("in vain")
        monkeypatch.setattr(module, "WAIT_S", SOON_S)
        await row.ask("next")
        await row.tasks[1]
        await row.over()
        assert (row.refused, row.entered) == (["in vain"], ["has the place", "next"])

    await on(bridge, scene())
