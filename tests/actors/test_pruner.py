"""The pruner: bodies, then the closing entry, then runs, then keys; batch by batch, with rests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from attrs import define, field

from dpp.actors.pruner import (
    BODIES_MAX,
    FACTS_MAX,
    FIRST_S,
    KEYS_MAX,
    OUTAGES_MAX,
    PASS_S,
    REST,
    RUNS_MAX,
    TENANTS_PAGE,
    Pruner,
    pruner,
)
from dpp.actors.supervisor import supervise
from dpp.faults import StoreUnavailable
from dpp.retention import Overdue, Pruned

if TYPE_CHECKING:
    from trio.testing import MockClock

TOOK_S = 0.02


@define(eq=False)
class Books:
    """Tenants with so much to do each, and what was asked."""

    tenants: dict[str, dict[str, int]]
    spent_keys: int = 0
    asked: list[tuple[str, str]] = field(factory=list)
    passes: list[float] = field(factory=list)
    away: bool = False
    refused: dict[str, Exception] = field(factory=dict)

    async def retention_due(self, *, after: str, limit: int) -> list[Overdue]:
        await trio.lowlevel.checkpoint()
        if not after:
            self.passes.append(trio.current_time())
        if self.away:
            raise StoreUnavailable
        names = sorted(name for name in self.tenants if name > after)[:limit]
        return [self.due(name) for name in names]

    def due(self, name: str) -> Overdue:
        left = self.tenants[name]
        return Overdue(
            tenant_id=name,
            bodies=bool(left.get("bodies")),
            closable=bool(left.get("facts")),
            prunable=False,
        )

    async def take(self, what: str, name: str, most: int) -> int:
        self.asked.append((what, name))
        await trio.sleep(TOOK_S)
        if name in self.refused:
            raise self.refused[name]
        taken = min(most, self.tenants[name].get(what, 0))
        self.tenants[name][what] = self.tenants[name].get(what, 0) - taken
        return taken

    async def prune_bodies(self, tenant_id: str, *, most: int) -> int:
        return await self.take("bodies", tenant_id, most)

    async def close_books(self, tenant_id: str, *, facts_max: int) -> int:
        return await self.take("facts", tenant_id, facts_max)

    async def prune(self, tenant_id: str, *, most: int) -> Pruned:
        return Pruned(await self.take("runs", tenant_id, most), 0)

    async def forget_keys(self, *, most: int) -> int:
        await trio.lowlevel.checkpoint()
        self.asked.append(("keys", ""))
        taken = min(most, self.spent_keys)
        self.spent_keys -= taken
        return taken


async def test_a_tenant_is_brought_to_its_end_in_order_and_left_alone_where_nothing_is_due(
    autojump_clock: MockClock,
) -> None:
    books = Books(
        {
            "acme": {"bodies": BODIES_MAX + 1, "facts": FACTS_MAX + 1, "runs": RUNS_MAX + 1},
            "idle": {},
        },
        spent_keys=KEYS_MAX,
    )
    began_at = trio.current_time()

    await Pruner(books).step()

    assert books.asked == [
        *[("bodies", "acme")] * 2,
        *[("facts", "acme")] * 2,
        *[("runs", "acme")] * 2,
        *[("keys", "")] * 2,
    ]
    assert books.tenants == {"acme": {"bodies": 0, "facts": 0, "runs": 0}, "idle": {}}
    rested_s = trio.current_time() - began_at - 6 * TOOK_S
    assert abs(rested_s - 3 * REST * TOOK_S) < TOOK_S / 2


async def test_all_tenants_have_their_turn_page_by_page(autojump_clock: MockClock) -> None:
    books = Books({f"t{n:05}": {"bodies": 1} for n in range(TENANTS_PAGE + 5)})

    await Pruner(books).step()

    assert len({name for what, name in books.asked if what == "bodies"}) == TENANTS_PAGE + 5


async def test_a_pass_comes_hourly_and_an_outage_ends_only_one(autojump_clock: MockClock) -> None:
    books = Books({"acme": {"bodies": 1}}, away=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "pruner", lambda: pruner(books))
        await trio.sleep(2 * FIRST_S)
        books.away = False
        await trio.sleep(1.2 * PASS_S)
        nursery.cancel_scope.cancel()

    assert books.tenants == {"acme": {"bodies": 0}}
    first, second = books.passes[:2]
    assert first <= 1.1 * FIRST_S
    assert 0.9 * PASS_S <= second - first <= 1.1 * PASS_S


async def test_what_one_tenant_fails_by_stops_no_other_and_no_node(
    autojump_clock: MockClock,
) -> None:
    due = {name: {"bodies": 1} for name in ("bad", "good", "late", "zoe")}
    books = Books(due, refused={"bad": ValueError("a CHECK"), "late": StoreUnavailable()})

    await Pruner(books).step()

    assert {name: left["bodies"] for name, left in due.items()} == {
        "bad": 1,
        "good": 0,
        "late": 1,
        "zoe": 0,
    }


async def test_an_outage_of_a_few_running_is_one_of_all(autojump_clock: MockClock) -> None:
    names = [f"t{n}" for n in range(9)]
    books = Books(
        {name: {"bodies": 1} for name in names},
        refused=dict.fromkeys(names, StoreUnavailable()),
    )

    with pytest.raises(StoreUnavailable):
        await Pruner(books).step()

    assert len(books.asked) == OUTAGES_MAX
