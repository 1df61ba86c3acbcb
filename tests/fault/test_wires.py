"""The wire of a storm does what it is told, says truly how often it hit, and keeps up."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import trio

from tests.fault.wires import NodeWire, node_wire
from tests.store.wire import CANCEL_REQUEST, SOCKET

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database

NEVER_S = 0.3  # for an order that nothing can meet
HELD_S = 1.0
LATE_S = 0.2


@pytest.fixture
def wire(database: Database) -> Iterator[NodeWire]:
    """Run a wire before the test's server."""
    with node_wire(database.host, seed=1) as one:
        yield one


async def insert(host: str, name: str, number: int) -> None:
    """Write a number in a transaction of its own, on a connection of its own."""
    connection = await asyncpg.connect(host=host, user="postgres", database=name, timeout=20)
    try:
        await connection.execute("create table if not exists numbers (n int)")
        await connection.execute("begin")
        await connection.execute("insert into numbers select $1::int", number)
        await connection.execute("commit")
    finally:
        connection.terminate()


async def numbers(host: str, name: str) -> list[int]:
    """Return what was written."""
    connection = await asyncpg.connect(host=host, user="postgres", database=name)
    try:
        return [row["n"] for row in await connection.fetch("select n from numbers order by n")]
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


async def told(wire: NodeWire, hits: list[int], name: str, **members: Any) -> None:
    """Give an order, and note how often it hit."""
    hits.append(await wire.order(name, **members))


@pytest.mark.parametrize(("how", "there"), [("before", []), ("after", [1])])
async def test_a_commit_is_cut_before_it_arrives_or_after_it_is_done(
    wire: NodeWire, database: Database, bridge: Bridge, how: str, there: list[int]
) -> None:
    hits: list[int] = []
    async with trio.open_nursery() as nursery:
        order = partial(told, wire, hits, "cut_at_commit", how=how, within_s=20)
        nursery.start_soon(order)
        await trio.sleep(LATE_S)
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await bridge.run(partial(insert, wire.host, database.name, 1))

    assert hits == [1]
    assert await bridge.run(partial(numbers, database.host, database.name)) == there


async def test_an_order_that_nothing_met_hit_nothing_and_leaves_nothing_behind(
    wire: NodeWire, database: Database, bridge: Bridge
) -> None:
    hits = [
        await wire.order("cut_at_commit", how="before", within_s=NEVER_S),
        await wire.order("cut_at_message", k=1, how="before", within_s=NEVER_S),
        await wire.order("delay", least_s=1, most_s=2, seconds=NEVER_S),
        await wire.order("blackhole", seconds=NEVER_S, then="reset"),
        await wire.order("cancel_requests"),
    ]

    await bridge.run(partial(insert, wire.host, database.name, 1))
    assert hits == [0] * 5
    assert await bridge.run(partial(numbers, database.host, database.name)) == [1]


async def test_a_connection_is_cut_at_the_message_that_was_named(
    wire: NodeWire, database: Database, bridge: Bridge
) -> None:
    hits: list[int] = []
    async with trio.open_nursery() as nursery:
        order = partial(told, wire, hits, "cut_at_message", k=2, how="before", within_s=20)
        nursery.start_soon(order)
        await trio.sleep(LATE_S)
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await bridge.run(partial(insert, wire.host, database.name, 1))

    assert hits == [1]
    # The first message made the table; the second never arrived.
    assert await bridge.run(partial(numbers, database.host, database.name)) == []


async def test_what_a_blackhole_held_passes_late_and_nobody_was_cut(
    wire: NodeWire, database: Database, bridge: Bridge
) -> None:
    hits: list[int] = []
    async with trio.open_nursery() as nursery:
        began_at = trio.current_time()
        nursery.start_soon(
            partial(told, wire, hits, "blackhole", seconds=HELD_S + LATE_S, then="pass")
        )
        await trio.sleep(LATE_S)
        await bridge.run(partial(insert, wire.host, database.name, 1))
        took_s = trio.current_time() - began_at

    assert hits[0] >= 1
    assert took_s > HELD_S
    assert await bridge.run(partial(numbers, database.host, database.name)) == [1]


async def test_a_request_to_cancel_is_counted_and_goes_nowhere(wire: NodeWire) -> None:
    async with await trio.open_unix_socket(f"{wire.host}/{SOCKET}") as stream:
        await stream.send_all(struct.pack("!iiii", 16, CANCEL_REQUEST, 1, 2))
        answer = await stream.receive_some(1)

    assert answer == b""
    assert await wire.order("cancel_requests") == 1
