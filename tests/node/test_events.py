"""Streams of events on two real nodes with one PostgreSQL: the same ids on both, and nothing lost."""  # noqa: E501

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
import trio

from tests.node_client import connected, until
from tests.node_process import NodeProcess, nodes_on
from tests.sse import Event, ids, streaming

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
SOON_S = 60
CONFIG = """
[node]
drain_s = 1
"""
HOLDER = "select node_id from dpp.node_leases join dpp.live_runs using (lease_id) where run_id = $1"
STORED = (
    "select lease_epoch || '.' || n from dpp.run_events where run_id = $1 order by lease_epoch, n"
)


@pytest.fixture
async def pair(database: Database) -> AsyncIterator[list[NodeProcess]]:
    """Give two nodes that run."""
    with nodes_on(database.host, database.name, CONFIG, CONFIG) as nodes:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(trio.to_thread.run_sync, node.start)
        yield nodes


async def streamed(node: NodeProcess, run_id: str, key: str, into: list[list[Event]]) -> None:
    """Read a whole stream."""
    with trio.fail_after(SOON_S):
        async with streaming(node.url, run_id, key) as stream:
            into.append(await stream.rest())


async def test_other_nodes_tell_the_last_charge_before_the_end_too(pair: list[NodeProcess]) -> None:
    key = pair[0].tenant()
    runs = 10
    told: list[list[Event]] = []

    async with connected(pair[0].url, key) as client:
        for _ in range(runs):  # mostly the first node's, whose follower looks when all is over
            run = await client.submitted(inputs={"cost_usd": "0.001"})
            await streamed(pair[1], run["run_id"], key, told)
            await streamed(pair[0], run["run_id"], key, told)

    assert [ids(events) for events in told] == [["0.queued", "1.0", "1.1", "1.end"]] * 2 * runs
    assert {events[2].data["charged_usd"] for events in told} == {"0.001"}


async def test_stream_goes_on_at_another_node_after_a_drain(
    pair: list[NodeProcess], books_of: BooksOf
) -> None:
    key = pair[0].tenant()
    books = books_of(pair[0])

    async with connected(pair[0].url, key) as client:
        run = await client.submitted(inputs={"cost_usd": "0.001", "sleep_s": 5})
        run_id = run["run_id"]
        await client.until_status(run_id, "PROCESSING")
    (row,) = await until(lambda: books.rows(HOLDER, run_id))
    first, second = sorted(pair, key=lambda node: node.node_id != str(row["node_id"]))
    with trio.fail_after(SOON_S):
        async with streaming(first.url, run_id, key) as stream:
            got = await stream.until("1.1")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, first.terminate)
                got += await stream.rest()
        rest_from = got[-1].id
        async with streaming(second.url, run_id, key, rest_from) as stream:
            got += await stream.rest()
    told: list[list[Event]] = []
    await streamed(second, run_id, key, told)

    assert rest_from == "1.1"
    assert ids(got) == ["0.queued", "1.0", "1.1", "1.queued", "2.0", "2.1", "2.end"]
    assert got == told[0]  # who reads it all afterwards is told the very same
    assert got[-1].data["status"] == "COMPLETED"


async def test_what_a_run_tells_as_its_node_drains_is_stored(
    pair: list[NodeProcess], books_of: BooksOf
) -> None:
    key = pair[0].tenant()
    books = books_of(pair[1])
    await trio.to_thread.run_sync(pair[1].terminate)  # the other one executes them all

    async with connected(pair[0].url, key) as client:
        made = [await client.submitted(inputs={"cost_usd": "0.001"}) for _ in range(20)]
        await trio.to_thread.run_sync(pair[0].terminate)

    ended = 0
    for run in made:
        status = await books.rows("select 1 from dpp.endings where run_id = $1", run["run_id"])
        told = [row[0] for row in await books.rows(STORED, run["run_id"])]
        assert told == (["1.1"] if status else [])
        ended += len(status)
    assert ended > 0
