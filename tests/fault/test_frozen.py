"""Nodes that are frozen past their lease, at the worst places, and wake up late.

Another node has their runs by then. What the late ones still ask for is refused, what they still
work on is cancelled, an object that they still store is nobody's, and each run is paid once.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import trio

from dpp.actors import reconciler
from dpp.store.directory_blobs import DirectoryBlobs
from tests.node_books import Books
from tests.node_client import Client, connected, until
from tests.node_process import NodeProcess, nodes_on

if TYPE_CHECKING:
    import pytest

    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database

CONFIG = """
[lease]
lease_s = 4
heartbeat_interval_s = 1
[reaper]
interval_s = 1
[reconcile]
interval_s = 1
[node]
drain_s = 1
"""
SMALL = {"message": "small", "cost_usd": "0.001"}
LARGE = {"message": "x" * 100_000, "cost_usd": "0.002"}
LONG = {"sleep_s": 600, "cost_usd": "0.003"}
DAY_S = reconciler.DAY_S
IN_HAND = """
select run_id from dpp.live_runs join dpp.node_leases using (lease_id) where node_id = $1
"""
ENDINGS = """
select run_id, status, cost, lease_epoch, attempts_spent, result_key
  from dpp.endings where run_id = any($1)
"""
REFUSED = 'dpp_zombie_writes_refused_total{{verb="{}"}}'


def freezes_at(point: str) -> str:
    """Return the configuration of a node that freezes there, once."""
    return f'{CONFIG}[testing]\nfailpoints = ["{point}"]\n'


async def start(*nodes: NodeProcess) -> None:
    """Start nodes, all at once."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(trio.to_thread.run_sync, node.start)


async def holds(look: Callable[[], bool]) -> bool:
    """Look, in a form that `until` takes."""
    await trio.lowlevel.checkpoint()
    return look()


async def freeze_on(node: NodeProcess, key: str, inputs: dict[str, Any]) -> None:
    """Submit to a node until it freezes on a run, one at a time: it must not hold a budget row.

    Where another node was quicker to take one, that one just ends.
    """
    async with connected(node.url, key) as client, trio.open_nursery() as nursery:
        nursery.start_soon(submit_for_ever, client, inputs)
        await until(partial(holds, lambda: node.frozen))
        nursery.cancel_scope.cancel()


async def submit_for_ever(client: Client, inputs: dict[str, Any]) -> None:
    """Submit one run after another; a node that froze before may hold the tenant's row a while."""
    while True:
        answer = await client.submit(inputs=inputs)
        assert answer.status_code in {201, 503}, answer.text
        if answer.status_code == 201:
            await client.ended(answer.json()["run_id"])


async def take_up(node: NodeProcess, books: Books, key: str) -> list[UUID]:
    """Let a node have a run in hand that does not end by itself."""
    async with connected(node.url, key) as client:
        while not (mine := await in_hand(node, books)):
            run = await client.submitted(inputs=LONG)
            await client.until_status(run["run_id"], "PROCESSING")
    return mine


async def in_hand(node: NodeProcess, books: Books) -> list[UUID]:
    """Return the runs that are the node's, as the database knows it."""
    return [row["run_id"] for row in await books.rows(IN_HAND, node.node_id)]


async def taken_over(books: Books, run_ids: list[UUID]) -> bool:
    """Say whether others have each of these runs, or had it and ended it."""
    still = "select 1 from dpp.live_runs where run_id = any($1) and lease_epoch = 1"
    return not await books.rows(still, run_ids)


async def wake_late(node: NodeProcess, books: Books, run_ids: list[UUID]) -> None:
    """Wake a frozen node once others have its runs."""
    await until(partial(taken_over, books, run_ids))
    node.signal(signal.SIGCONT)


async def cancel_all(client: Client) -> None:
    """Cancel what does not end by itself."""
    for run in (await client.get("/v1/runs", limit=200))["items"]:
        if run["status"] == "PROCESSING":
            await client.cancel(run["run_id"])
            await client.ended(run["run_id"])


def works_on_nothing(node: NodeProcess) -> bool:
    """Say whether the node lost its tenure, and has renewed another with no run in hand."""
    lines = node.lines()
    lost = [n for n, line in enumerate(lines) if line["event"] == "lease ended"]
    return bool(lost) and any(
        (line["event"], line.get("runs")) == ("heartbeat", 0) for line in lines[lost[-1] :]
    )


async def test_what_nodes_ask_for_that_wake_up_late_is_refused_and_each_run_is_paid_once(
    bridge: Bridge, database: Database
) -> None:
    configs = (
        CONFIG,
        freezes_at("settle.begin:stop"),
        freezes_at("mark_storing.begin:stop"),
        CONFIG,
        freezes_at("renew_lease.begin:stop@3"),
    )
    with nodes_on(database.host, database.name, *configs) as (rescuer, *late):
        settling, marking, working, renewing = late
        books = Books(rescuer, bridge)
        await start(rescuer, settling, marking, working)
        key = rescuer.tenant("acme")
        hands = {working: await take_up(working, books, key)}
        await start(renewing)
        hands[renewing] = await take_up(renewing, books, key)
        async with trio.open_nursery() as waking:
            working.signal(signal.SIGSTOP)
            for node in (working, renewing):  # past 8 s its own wall clock cuts a renewal off
                waking.start_soon(wake_late, node, books, hands[node])
            for node, inputs in ((settling, SMALL), (marking, LARGE)):
                await freeze_on(node, key, inputs)
                hands[node] = await in_hand(node, books)
                waking.start_soon(wake_late, node, books, hands[node])

        await until(partial(holds, lambda: settling.counted(REFUSED.format("end_runs")) == 1))
        async with connected(rescuer.url, key) as client:
            await cancel_all(client)
        for node in late:
            await until(partial(holds, partial(works_on_nothing, node)))
        lost = [run_id for mine in hands.values() for run_id in mine]
        endings = await books.rows(ENDINGS, lost)
        spent, cost = await books.rows(
            "select sum(spent) as usd from dpp.budgets union all select sum(cost) from dpp.endings"
        )
        for node in late:  # one volume: the audit looks at results, whoever stored them
            shutil.copytree(node.results, rescuer.results, dirs_exist_ok=True)
        await books.judge()

    assert all(hands.values()), "a node froze with nothing in hand"
    assert len(endings) == len(lost)
    assert {(row["lease_epoch"], row["attempts_spent"]) for row in endings} == {(2, 1)}
    assert {(row["status"], row["cost"]) for row in endings} == {
        ("COMPLETED", 1000),
        ("COMPLETED", 2000),
        ("CANCELED", 3000),
    }
    assert spent == cost


async def test_an_object_that_is_stored_too_late_is_nobodys_and_is_gone_a_day_later(
    bridge: Bridge, database: Database, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = (CONFIG, freezes_at("deliver.after_mark:stop"))
    with nodes_on(database.host, database.name, *configs) as (rescuer, late):
        books = Books(rescuer, bridge)
        await start(late)
        key = late.tenant("acme")
        await freeze_on(late, key, LARGE)
        (run_id,) = await in_hand(late, books)
        await start(rescuer)
        (ending,) = await until(partial(books.rows, ENDINGS, [run_id]))

        # One volume: where the rescuer has stored its result, the late node stores its own.
        late.results.rename(late.data_dir / "postgres-unmounted")
        rescuer.results.rename(late.results)
        late.signal(signal.SIGCONT)
        await until(partial(holds, lambda: len(objects(late.results)) == 2))
        await until(partial(holds, partial(works_on_nothing, late)))

        assert await books.rows(ENDINGS, [run_id]) == [ending]
        blobs = DirectoryBlobs(late.results)
        assert await blobs.identify(None) is not None
        young = await blobs.collect(older_than_s=DAY_S, keep=store.kept_objects)
        for one in objects(late.results):
            os.utime(one, (one.stat().st_atime, one.stat().st_mtime - DAY_S - 1))
        monkeypatch.setattr(reconciler, "COLLECT_S", 0.01)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reconciler.collector, store, blobs)
            await until(partial(holds, lambda: len(objects(late.results)) == 1))
            nursery.cancel_scope.cancel()
        (kept,) = objects(late.results)
        kept_as = str(kept.relative_to(late.results))
        late.results.rename(rescuer.results)
        async with connected(rescuer.url, key) as client:
            run = await client.run(str(run_id))
        await books.judge()

    assert (young.looked, young.deleted) == (2, 0)
    assert kept_as == ending["result_key"]
    assert (run["status"], run["attempt"], run["cost"]["actual_usd"]) == ("COMPLETED", 2, "0.002")
    assert (ending["lease_epoch"], ending["attempts_spent"]) == (2, 1)


def objects(results: Path) -> list[Path]:
    """Return the objects in a store of results."""
    return [path for path in results.rglob("*") if path.is_file() and path.name != "store_id"]
