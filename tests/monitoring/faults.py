"""Faults on real nodes, and a real Prometheus that must tell of each; then the dashboards' queries.

All times of the rules are a thirtieth of what they are, and so are the nodes' own. Its name keeps
it out of `make test`; `make test-alerts` runs it, in about two minutes.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.monitoring.described import alerts, needs_prometheus, panels
from tests.monitoring.prometheus import SHORTER, Prometheus, prometheus
from tests.node_client import connected, fresh_key, submission, until
from tests.node_process import NodeProcess, node_process, nodes_on
from tests.redis_server import RedisServer, needs_redis, redis_server

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database

WAIT_S = 90.0  # for an alert; the slowest takes a minute, thirty of a deployment's
FRESH_S = 15.0  # of scrapes: more than a window of five minutes, which is ten seconds here
# A heartbeat of 30 s is 1 s; a lease of 4 s would lapse where six others want the processor.
CONFIG = """
[lease]
heartbeat_interval_s = 1
lease_s = 10
[reaper]
interval_s = 1
[reconcile]
interval_s = 1
[audit]
interval_s = 1
[node]
drain_s = 1
[redis]
url = "{redis}"
[metrics]
tenants = ["acme"]
[testing]
failpoints = [{failpoint}]
"""
OTHER_PLANS = """
[plans.of_this_node]
concurrent_runs = 7
"""
CRASHES = '"reap_lease.begin:raise@40"'  # at a pass of the reaper, some 40 s after the start
# The books lose a dollar that was deposited: each row is well by itself.
WRONG = """
update dpp.budgets set deposited = deposited - 1000000, available = available - 1000000
 where tenant_id = 'wronged'
"""
# Due in a few seconds, so that it is held before anybody takes it.
UNDELIVERED = """
insert into dpp.webhook_deliveries (tenant_id, webhook_id, event, run_id, created_at, next_at)
values ('acme', gen_random_uuid(), 'run.completed', gen_random_uuid(), now(),
        now() + interval '5 seconds')
"""
# What no fault of a minute makes; rules_test.yml shows them.
NOT_PROVOKED = {
    "DPP_Commits_Refused",
    "DPP_Commits_Unknown",
    "DPP_Postgres_Wraparound",
    "DPP_Latency_High",
    "DPP_Runs_Slow",
    "DPP_Pool_Exhausted",
    "DPP_Mailbox_Full",
    "DPP_SQS_Down",
    "DPP_Dead_Letters",
    "DPP_Dead_Rows",
    "DPP_Xmin_Held",
    "DPP_Criterion_Missed",
}

pytestmark = [needs_prometheus, needs_redis, pytest.mark.timeout(300)]


async def ask_for_runs(node: NodeProcess, key: str, number: int, **inputs: Any) -> None:
    """Submit so many runs, a thousand at a time."""
    async with connected(node.url, key) as client:
        for start in range(0, number, 1000):
            some = [
                {**submission(inputs=inputs), "idempotency_key": fresh_key()}
                for _ in range(min(1000, number - start))
            ]
            assert {item["status"] for item in await client.batch(some)} == {201}


async def load(node: NodeProcess, key: str) -> None:
    """Ask for something all the time, whatever is answered."""
    async with connected(node.url, key) as client:
        while True:
            with suppress(httpx.TransportError):
                await client.http.get("/v1/budget", headers={"Authorization": f"Bearer {key}"})
            await trio.sleep(0.05)


async def change(bridge: Bridge, database: Database, statement: str) -> None:
    """Do what no node does, as an administrator of the server."""

    async def execute() -> None:
        connection = await database.connect()
        await connection.execute(statement)
        await connection.close()

    await bridge.run(execute)


async def in_doubt(told: Prometheus, node: NodeProcess, bridge: Bridge, database: Database) -> None:
    """Money that somebody took out of the books behind their back."""
    node.tenant("wronged", plan="unlimited")
    await trio.sleep(3)  # for the auditor to know the tenant; it finds it either way
    await change(bridge, database, WRONG)
    await told.until_firing("DPP_AuditRequired_Critical", "DPP_Findings_Open", within_s=WAIT_S)


async def no_redis(told: Prometheus, redis: RedisServer) -> None:
    """A Redis that is gone."""
    redis.kill()
    await told.until_firing("DPP_Redis_Down", within_s=WAIT_S)


async def nobody_works(told: Prometheus, nodes: tuple[NodeProcess, ...], key: str) -> None:
    """Nodes that take runs in and claim none; then nodes that take none in."""
    one = nodes[0]
    paths = [f"/admin/v1/nodes/{node.node_id}" for node in nodes]
    for path in paths:
        one.admin("POST", f"{path}:drain", {"reason": "a test"})

    async def drained() -> bool:
        return all(one.admin("GET", path)["state"] == "drained" for path in paths)

    await until(drained)
    await ask_for_runs(one, key, 1200)
    await told.until_firing("DPP_SQS_Queue_Backlog", "DPP_Queue_Stalled", within_s=WAIT_S)


async def one_works(nodes: tuple[NodeProcess, ...], key: str) -> None:
    """Let one node, the last, have all the runs in its hands."""
    other = nodes[-1]
    path = "/admin/v1/nodes/{}:undrain"
    other.admin("POST", path.format(other.node_id), {})
    await ask_for_runs(other, key, 100, sleep_s=600)

    async def works() -> bool:
        return other.counted('dpp_runs{pack="echo",status="PROCESSING"}') == 100

    await until(works)
    for node in nodes[:-1]:
        other.admin("POST", path.format(node.node_id), {})


async def node_dies(told: Prometheus, other: NodeProcess) -> None:
    """A node that is killed."""
    other.kill9()
    await told.until_firing(
        "DPP_API_Down", "DPP_Worker_Heartbeat_Missing", "DPP_Runs_Taken_Back", within_s=WAIT_S
    )


async def nobody_delivers(told: Prometheus, bridge: Bridge, database: Database) -> None:
    """An event that is due, and whose row somebody holds and does not let go."""
    await change(bridge, database, UNDELIVERED)
    held: list[Any] = []

    async def hold() -> None:
        connection = await database.connect()
        held.append(connection)
        await connection.execute("begin; select from dpp.webhook_deliveries for update")

    await bridge.run(hold)
    try:
        await told.until_firing("DPP_Webhooks_Behind", within_s=WAIT_S)
    finally:
        with trio.CancelScope(shield=True):
            await bridge.run(held[0].close)


async def stutters(told: Prometheus, node: NodeProcess) -> None:
    """A node that has no processor half of the time."""
    told.seen.pop("DPP_Loop_Lag", None)  # a busy machine may have been first
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(told.until_firing, "DPP_Loop_Lag", within_s=WAIT_S))
        while "DPP_Loop_Lag" not in told.seen:
            node.signal(signal.SIGSTOP)
            await trio.sleep(0.5)
            node.signal(signal.SIGCONT)
            await trio.sleep(0.3)


async def database_ends(told: Prometheus, node: NodeProcess, key: str) -> None:
    """An embedded PostgreSQL that ends and cannot start again."""
    (postmaster,) = node.postmasters()
    data = node.data_dir / "postgres"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, node, key)
        (data / "postgresql.conf").write_text("no such setting\n")
        (data / "PG_VERSION").write_text("1\n")
        os.kill(postmaster, signal.SIGQUIT)
        await told.until_firing(
            "DPP_Embedded_Postgres_Down",
            "DPP_Database_Connection_Failed",
            "DPP_Loop_Stuck",
            "DPP_Errors_Burning",
            within_s=WAIT_S,
        )
        nursery.cancel_scope.cancel()


async def every_panel_finds_data(told: Prometheus) -> None:
    """Each query of each dashboard, as it stands there, finds a figure that is one."""
    empty: list[tuple[str, str, str]] = []

    async def found() -> bool:
        empty[:] = [panel for panel in panels() if not finds(told, panel[2])]
        return not empty

    with trio.move_on_after(WAIT_S):
        await until(found, soon_s=WAIT_S)
    assert empty == []


async def all_quiet(told: Prometheus) -> bool:
    """Say whether nothing fires, and forget what did: starting three nodes takes a while."""
    await trio.lowlevel.checkpoint()
    quiet = not told.firing()
    told.seen.clear()
    return quiet


def finds(told: Prometheus, query: str) -> bool:
    return any(one["value"][1] != "NaN" for one in told.query(query))


async def test_each_fault_makes_its_alert_fire_and_every_panel_finds_data(
    database: Database, bridge: Bridge
) -> None:
    with (
        redis_server() as redis,
        nodes_on(
            database.host,
            database.name,
            CONFIG.format(redis=redis.url, failpoint=CRASHES),
            CONFIG.format(redis=redis.url, failpoint="") + OTHER_PLANS,
        ) as (one, other),
        node_process(CONFIG.format(redis=redis.url, failpoint="")) as alone,
        prometheus() as told,
    ):
        for node in (one, other, alone):
            node.launch()
        for node in (one, other, alone):
            node.wait_ready()
        told.watch([node.management_url for node in (one, other, alone)])
        key, key_alone = one.tenant("acme", "1000.00"), alone.tenant("acme", "1000.00")
        began_at = trio.current_time()
        for n in range(3):
            await ask_for_runs(one, key, 50, cost_usd="0.001", message=n)
            await trio.sleep(FRESH_S / 3)
        await until(partial(all_quiet, told))
        await every_panel_finds_data(told)
        async with trio.open_nursery() as faults:
            faults.start_soon(in_doubt, told, one, bridge, database)
            faults.start_soon(no_redis, told, redis)
            faults.start_soon(nobody_delivers, told, bridge, database)
            faults.start_soon(database_ends, told, alone, key_alone)
            await nobody_works(told, (one, other), key)
            await one_works((one, other), key)
            one.admin("PUT", "/admin/v1/mode", {"mode": "no-submit", "reason": "a test"})
            await told.until_firing("DPP_Nodes_Differ", within_s=WAIT_S)
            await node_dies(told, other)
            faults.start_soon(stutters, told, one)
        await told.until_firing("DPP_Actor_Crashing", "DPP_Mode_Not_Normal", within_s=WAIT_S)
        told.watch([])
        await told.until_firing("DPP_API_Absent", within_s=WAIT_S)

    for name, at in sorted(told.seen.items(), key=lambda pair: pair[1]):
        print(f"{at - began_at:6.1f} s  {name}")  # noqa: T201 - what it took
    assert told.seen.keys() | NOT_PROVOKED == alerts().keys()
    assert SHORTER == 30
