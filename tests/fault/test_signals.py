"""A node that is told to end, and killed before its drain is over: nothing of that shows in the books.

Load goes on across it, and a run is in work that outlasts every drain. It is done once here;
`DPP_ROUNDS` sets how often.
"""  # noqa: E501

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

import trio

from tests.node.load import Load
from tests.node_client import connected, until

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books
    from tests.node_process import NodeProcess

BooksOf = Callable[["NodeProcess"], "Books"]
SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
ROUNDS = int(os.environ.get("DPP_ROUNDS", "1"))
PATIENCE_S = 1.0  # of a supervisor that does not wait for the drain
CONFIG = "[runs]\nattempts_max = 100\n"  # each kill spends one, which is not what is tried here
LONG = {"sleep_s": 600, "cost_usd": "0.001"}


async def test_a_drain_that_is_killed_half_way_leaks_nothing(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    print(f"DPP_TEST_SEED={SEED}")
    node = fresh_node(CONFIG)
    books = books_of(node)
    tenants = {f"acme-{n}": node.tenant(f"acme-{n}", "1000.00") for n in range(2)}
    key, load = node.tenant("patient"), Load(tenants, Random(SEED))
    async with connected(node.url, key) as client:
        run_id = (await client.submitted(inputs=LONG))["run_id"]

    for lost in range(ROUNDS):
        await in_work(node, key, run_id, attempt=1 + lost)
        await drain_and_kill(node, load)
        await trio.to_thread.run_sync(node.start)

    # It was in work at each kill: an attempt each, and one charge in the end.
    await in_work(node, key, run_id, attempt=1 + ROUNDS)
    async with connected(node.url, key) as client:
        await client.cancel(run_id)
        ended = await client.ended(run_id)
    unknown = await load.replay(node.url)
    await load.check(node.url)
    print(f"{len(load.asked)} asked, {load.lost} lost, {unknown} unknown")
    assert (ended["status"], ended["cost"]["actual_usd"]) == ("CANCELED", "0.001")
    await books.judge()
    assert await trio.to_thread.run_sync(node.terminate) == 0


async def in_work(node: NodeProcess, key: str, run_id: str, *, attempt: int) -> None:
    """Wait until this attempt of the run is in work: at first it is still the lost one's."""
    async with connected(node.url, key) as client:

        async def look() -> bool:
            run = await client.run(run_id)
            return (run["status"], run["attempt"]) == ("PROCESSING", attempt)

        await until(look)


async def drain_and_kill(node: NodeProcess, load: Load) -> None:
    """Load the node, tell it to end, and kill it a second later, before it can be done."""
    stop, before = trio.Event(), len(load.asked)
    async with trio.open_nursery() as senders:
        for tenant in (*load.tenants, *load.tenants):
            senders.start_soon(load.send, node.url, tenant, stop)

        async def enough() -> bool:
            await trio.lowlevel.checkpoint()
            return len(load.asked) > before + 20

        await until(enough)
        node.signal(signal.SIGTERM)
        await trio.sleep(PATIENCE_S)
        assert node.running, "the drain did not wait for the run in work"
        node.kill9()
        stop.set()
