"""How soon work goes on: after a node died, after PostgreSQL was away, without the results' store.

Two real nodes on one PostgreSQL, with short leases. Times are PostgreSQL's own stamps where it has
any; each test prints what it measured beside what is promised.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import trio
from attrs import define, field

from dpp.store import migrate, roles
from tests.cluster import Cluster, start_cluster
from tests.node_books import Books
from tests.node_client import connected, fresh_key, problem, submission, until
from tests.node_process import NodeProcess, nodes_on

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database

LEASE_S = 4
REAPER_S = 1
TAKEOVER_S = LEASE_S + REAPER_S + 1  # promised: lease, reaper's interval, and a second for the rest
OUTAGE_S = 3 * LEASE_S
BACK_S = 2.0  # promised, from the first answer of PostgreSQL to the first submit that succeeds
RUNS = 10  # of each node that has some
CONFIG = f"""
[lease]
lease_s = {LEASE_S}
heartbeat_interval_s = 1
[reaper]
interval_s = {REAPER_S}
[reconcile]
interval_s = 1
[node]
drain_s = 1
"""
# Dies with its large result stored and nothing settled.
DIES_STORING = CONFIG + '[testing]\nfailpoints = ["deliver.after_put:exit"]\n'
SLEEP_S = 3
SLEEPING = {"sleep_s": SLEEP_S, "cost_usd": "0.001"}
LARGE = {"message": "x" * 100_000, "sleep_s": 0.5, "cost_usd": "0.002"}
CLAIMED = """
select run_id, lease_id, attempts_spent, lease_epoch,
       deadline - timebox_s * interval '1 second' as claimed_at
  from dpp.live_runs
 where run_id = any($1) and lease_id <> $2
"""
ENDINGS = "select * from dpp.endings where run_id = any($1)"


async def start(*nodes: NodeProcess) -> None:
    """Start nodes, all at once."""
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(trio.to_thread.run_sync, node.start)


async def lease_of(books: Books, node: NodeProcess) -> Any:
    """Return the lease row that a node holds."""
    (row,) = await books.rows("select * from dpp.node_leases where node_id = $1", node.node_id)
    return row


async def renewed(books: Books, node: NodeProcess) -> UUID:
    """Wait until a node has just renewed its lease: from then on others wait longest for it."""
    before = await lease_of(books, node)

    async def look() -> Any:
        row = await lease_of(books, node)
        return row if row["lease_until"] > before["lease_until"] else None

    lease_id: UUID = (await until(look))["lease_id"]
    return lease_id


async def in_work(node: NodeProcess, key: str) -> list[str]:
    """Submit runs to a node and wait until all are executed, most of them there; returns ids."""
    run = submission(inputs=SLEEPING)
    async with connected(node.url, key) as client:
        items = await client.batch([{**run, "idempotency_key": fresh_key()} for _ in range(RUNS)])
        run_ids = [item["run"]["run_id"] for item in items]
        for run_id in run_ids:
            await client.until_status(run_id, "PROCESSING")
    return run_ids


async def test_another_node_claims_the_runs_of_a_killed_one_within_lease_and_reaper(
    bridge: Bridge, database: Database
) -> None:
    with nodes_on(database.host, database.name, CONFIG, CONFIG) as (dying, living):
        await start(dying, living)
        books = Books(living, bridge)
        run_ids = await in_work(dying, dying.tenant("acme"))
        lease_id = await renewed(books, dying)
        killed_at = await books.value("select clock_timestamp()")

        dying.kill9()

        mine = "select run_id from dpp.live_runs where lease_id = $1"
        in_hand = {row["run_id"] for row in await books.rows(mine, lease_id)}
        assert in_hand, "the other node had them all"

        async def claimed() -> Any:
            rows = await books.rows(CLAIMED, list(in_hand), lease_id)
            return rows if len(rows) == len(in_hand) else None

        rows = await until(claimed)
        async with connected(living.url, living.new_key("acme")) as client:
            ended = [await client.ended(run_id) for run_id in run_ids]
        endings = await books.rows(ENDINGS, list(in_hand))
        spent = await books.value("select sum(spent) from dpp.budgets")
        await books.judge()

    takeover_s = max((row["claimed_at"] - killed_at).total_seconds() for row in rows)
    print(f"{len(in_hand)} runs claimed again {takeover_s:.2f} s after the kill, of {TAKEOVER_S} s")
    assert takeover_s <= TAKEOVER_S
    assert {(row["attempts_spent"], row["lease_epoch"]) for row in endings} == {(1, 2)}
    assert len(endings) == len(in_hand)
    assert {run["status"] for run in ended} == {"COMPLETED"}
    assert {run["cost"]["actual_usd"] for run in ended} == {"0.001"}
    assert spent == RUNS * 1000


@define(eq=False)
class Downtime:
    """What a client and a load balancer see of one node while PostgreSQL is away."""

    node: NodeProcess
    key: str
    refused: list[httpx.Response] = field(factory=list)
    unready: int = 0
    over_at: float | None = None  # the first submit succeeded

    async def submit(self) -> None:
        """Submit one run, under one key, until it is taken."""
        idempotency_key = fresh_key()
        async with connected(self.node.url, self.key) as client:
            while (answer := await client.submit(idempotency_key=idempotency_key)).is_error:
                self.refused.append(answer)
                await trio.sleep(0.05)
        self.over_at = trio.current_time()

    async def probe(self) -> None:
        """Ask whether the node lives, and whether it is ready, until it is over."""
        async with connected(self.node.url) as client:
            while self.over_at is None:
                assert (await client.ask("GET", "/health")).status_code == 200
                self.unready += (await client.ask("GET", "/readyz")).status_code == 503
                await trio.sleep(0.1)


@pytest.fixture
async def server(bridge: Bridge, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Run a PostgreSQL that only this test uses, with a migrated database `dpp`."""
    one = await trio.to_thread.run_sync(start_cluster, tmp_path)
    await bridge.run(partial(roles.make_database, one.host))
    await bridge.run(partial(bring_up, one.host))
    yield one
    one.stop()


async def bring_up(host: str) -> None:
    """Migrate the database, as its owner."""
    owner = await asyncpg.connect(host=host, user=roles.OWNER, database="dpp")
    await migrate.up(owner)
    await owner.close()


async def answering(books: Books) -> Any:
    """Wait until a fresh connection is answered; returns the time there, and here."""

    async def look() -> Any:
        try:
            return await books.value("select clock_timestamp()")
        except (OSError, asyncpg.PostgresError):
            return None

    return await until(look), trio.current_time()


async def test_after_an_outage_longer_than_the_lease_work_goes_on_within_two_seconds(
    bridge: Bridge, server: Cluster
) -> None:
    with nodes_on(server.host, "dpp", CONFIG, CONFIG) as nodes:
        await start(*nodes)
        books = Books(nodes[0], bridge)
        pids = [node.pid for node in nodes]
        data_dir = Path(await books.value("show data_directory"))
        downtimes = [Downtime(node, nodes[0].tenant(f"acme-{n}")) for n, node in enumerate(nodes)]
        run_ids = [run_id for one in downtimes for run_id in await in_work(one.node, one.key)]

        os.kill(int((data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
        async with trio.open_nursery() as clients:
            for downtime in downtimes:
                clients.start_soon(downtime.submit)
                clients.start_soon(downtime.probe)
            await trio.sleep(OUTAGE_S)
            # It is dead already, so this only starts it again.
            clients.start_soon(trio.to_thread.run_sync, server.crash, signal.SIGQUIT)
            back_at, answered_at = await answering(books)

        await until(partial(nothing_lives, books))
        endings = await books.rows(ENDINGS, run_ids)
        await books.judge()
        assert [node.pid for node in nodes if node.running] == pids

    first_s = max(one.over_at - answered_at for one in downtimes)
    in_hand = [row for row in endings if row["finished_at"] > back_at]
    resumed_s = max((row["finished_at"] - back_at).total_seconds() for row in in_hand) - SLEEP_S
    print(f"first submit {first_s:.2f} s after PostgreSQL was back, of {BACK_S} s")
    print(f"{len(in_hand)} runs in work again after {resumed_s:.2f} s, of {LEASE_S} s")
    for one in downtimes:
        assert one.unready, "/readyz did not tell"
        assert {answer.status_code for answer in one.refused} == {503}
        assert {problem(answer) for answer in one.refused} == {"temporary-reduced-capacity"}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in one.refused)
    assert first_s <= BACK_S
    assert resumed_s <= LEASE_S
    # An outage is nobody's fault: no attempt was spent, and nothing is paid twice.
    assert {(row["attempts_spent"], row["lease_epoch"]) for row in in_hand} == {(0, 2)}
    assert {(row["status"], row["cost"]) for row in endings} == {("COMPLETED", 1000)}
    assert len(endings) == len(run_ids)


async def nothing_lives(books: Books) -> bool:
    """Say whether every run has ended."""
    return bool(await books.value("select count(*) from dpp.live_runs") == 0)


async def test_without_the_store_of_results_all_other_runs_of_a_dead_node_go_on(
    bridge: Bridge, database: Database
) -> None:
    with nodes_on(database.host, database.name, DIES_STORING, CONFIG) as (dying, living):
        await start(dying, living)
        books = Books(living, bridge)
        key = dying.tenant("acme")
        run_ids = await in_work(dying, key)
        large = await dies_storing(dying, key)
        (mine,) = await books.rows("select * from dpp.live_runs where run_id = $1", large)

        unmounted = living.results.rename(living.data_dir / "postgres-unmounted")
        async with connected(living.url, key) as client:
            ended = [await client.ended(run_id) for run_id in run_ids]
            await until(partial(said, living, "blob store could not be asked"))
            (then,) = await books.rows("select * from dpp.live_runs where run_id = $1", large)
            shutil.copytree(unmounted, dying.results, dirs_exist_ok=True)
            dying.results.rename(living.results)  # the volume of both is there again
            back_at = await books.value("select clock_timestamp()")
            rolled = await client.ended(large)
        (ending,) = await books.rows(ENDINGS, [large])
        counted = living.counted('dpp_reconcile_total{outcome="rolled_forward"}')
        await books.judge()

    forward_s = (ending["finished_at"] - back_at).total_seconds()
    print(f"rolled forward {forward_s:.2f} s after the store was back")
    assert {(run["status"], run["cost"]["actual_usd"]) for run in ended} == {("COMPLETED", "0.001")}
    assert 2 in {run["attempt"] for run in ended}
    assert mine["storing"]
    assert then == mine, "it was decided about a result that nobody could look at"
    # What the dead node had stored is what counts, at what it had charged.
    assert (rolled["status"], rolled["attempt"]) == ("COMPLETED", 1)
    assert rolled["cost"]["actual_usd"] == "0.002"
    assert (ending["lease_epoch"], ending["attempts_spent"]) == (1, 0)
    assert counted == 1


async def dies_storing(node: NodeProcess, key: str) -> str:
    """Submit runs with large results to a node until one of them ends it; returns that one's id."""
    async with connected(node.url, key) as client:
        while True:
            run_id = (await client.submitted(inputs=LARGE))["run_id"]
            with suppress(httpx.TransportError):
                await client.ended(run_id)
                continue  # another node has taken it
            node.wait_ended()
            return run_id


async def said(node: NodeProcess, event: str) -> bool:
    """Say whether the node has logged this."""
    await trio.lowlevel.checkpoint()
    return any(line["event"] == event for line in node.lines())
