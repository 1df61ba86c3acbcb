"""The disk says that it could not sync: to PostgreSQL under its log, and to the store of results.

PostgreSQL panics and recovers: what was acknowledged is there, the node never ends. A result that
was not synced completes no run. strace makes the calls fail; where it may not, this is skipped.
`DPP_ROUNDS` sets how often PostgreSQL is hit.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.fault.strace import descendants, failing_syncs, injected, why_not
from tests.node.load import Load
from tests.node_client import connected, until

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books
    from tests.node_process import NodeProcess

BooksOf = Callable[["NodeProcess"], "Books"]
SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
ROUNDS = int(os.environ.get("DPP_ROUNDS", "1"))
ENOUGH = 20  # acknowledged before the disk fails, and after
LARGE = {"message": "x" * 100_000, "cost_usd": "0.002"}
PANIC = "PANIC:  could not fdatasync file"

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())


async def goes_on(load: Load) -> None:
    """Wait until some more runs were acknowledged."""
    before = acknowledged(load)

    async def look() -> bool:
        await trio.lowlevel.checkpoint()
        return acknowledged(load) >= before + ENOUGH

    await until(look)


def acknowledged(load: Load) -> int:
    """Count the runs that were acknowledged."""
    return sum(asked.run_id is not None for asked in load.asked)


async def hit(log: Path, times: int = 1) -> bool:
    """Say whether so many calls were made to fail."""
    await trio.lowlevel.checkpoint()
    return injected(log) >= times


async def test_after_a_failed_sync_of_its_log_postgres_recovers_with_all_that_was_acknowledged(
    fresh_node: StartNode, books_of: BooksOf, tmp_path: Path
) -> None:
    print(f"DPP_TEST_SEED={SEED}")
    dice = Random(SEED)
    node = fresh_node()
    books, pid = books_of(node), node.pid
    load = Load({f"acme-{n}": node.tenant(f"acme-{n}", "100.00") for n in range(2)}, Random(SEED))
    stop = trio.Event()
    async with trio.open_nursery() as senders:
        for tenant in (*load.tenants, *load.tenants):
            senders.start_soon(load.send, node.url, tenant, stop)
        for round_ in range(ROUNDS):
            await goes_on(load)
            (postmaster,) = node.postmasters()
            log = tmp_path / f"strace.{round_}"
            with failing_syncs(descendants(postmaster), log, f"{dice.randrange(1, 6)}"):
                await until(partial(hit, log))
            # It is back: by itself, or started again by the node where recovery failed too.
            await goes_on(load)
        stop.set()
    panics = sum(PANIC in str(line.get("line")) for line in node.lines())
    unknown = await load.replay(node.url)
    await load.check(node.url)

    print(
        f"{len(load.asked)} asked, {load.refused} answered 503, {unknown} unknown, {panics} panics"
    )
    assert panics >= ROUNDS
    assert load.refused, "nobody noticed"
    assert load.lost == 0, "a client was left without an answer"
    assert node.running
    assert node.pid == pid
    await books.judge()
    assert await trio.to_thread.run_sync(node.terminate) == 0


async def test_a_result_that_could_not_be_synced_completes_no_run(
    fresh_node: StartNode, books_of: BooksOf, tmp_path: Path
) -> None:
    node = fresh_node()
    books, log = books_of(node), tmp_path / "strace"
    async with connected(node.url, node.tenant("acme")) as client:
        with failing_syncs([node.pid], log):
            run = await client.submitted(inputs=LARGE)
            await until(partial(hit, log, 3))  # it was tried again, and again not synced
            small = await client.ended((await client.submitted())["run_id"])
            then = await client.run(run["run_id"])
        ended = await client.ended(run["run_id"])
        budget = await client.get("/v1/budget")

    assert small["status"] == "COMPLETED"  # it needs no store
    assert then["status"] == "PROCESSING"
    assert (ended["status"], ended["cost"]["actual_usd"]) == ("COMPLETED", "0.002")
    assert (budget["held_usd"], budget["spent_usd"]) == ("0.00", "0.002")
    await books.judge()
