"""What a real node shows of the others and of its tenants: real nodes on one database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.node_client import connected, until
from tests.node_process import NodeProcess, nodes_on

if TYPE_CHECKING:
    from tests.conftest import Database

CONFIG = """
[lease]
heartbeat_interval_s = 1
lease_s = 5
[reaper]
interval_s = 1
[metrics]
tenants = ["acme", "nobody"]
"""


def heard_at(told_by: NodeProcess, worker_id: str) -> float | None:
    """Return when a node was last heard of, as another tells it; None = it is not told of."""
    try:
        return told_by.counted(f'dpp_worker_last_heartbeat_timestamp{{worker_id="{worker_id}"}}')
    except StopIteration:
        return None


async def test_a_killed_node_is_told_of_by_the_living_and_one_that_left_is_not(
    database: Database,
) -> None:
    with nodes_on(database.host, database.name, CONFIG, CONFIG, CONFIG) as (one, dies, leaves):
        for node in (one, dies, leaves):
            node.launch()
        for node in (one, dies, leaves):
            node.wait_ready()
        dead, left = dies.node_id, leaves.node_id

        async def all_told() -> bool:
            return None not in {heard_at(one, name) for name in (one.node_id, dead, left)}

        await until(all_told)
        dies.kill9()
        assert leaves.terminate() == 0

        async def reaped() -> bool:
            return one.counted("dpp_leases_reaped_total") >= 1

        await until(reaped)  # nobody else is left to do it
        last = heard_at(one, dead)

        async def forgot() -> bool:
            return heard_at(one, left) is None

        await until(forgot)
        assert last is not None
        assert heard_at(one, dead) == last
        assert (heard_at(one, one.node_id) or 0) > last


async def test_the_balance_of_a_tenant_that_is_named_is_shown(database: Database) -> None:
    with nodes_on(database.host, database.name, CONFIG) as (node,):
        node.start()
        key = node.tenant("acme", "3.00")
        node.tenant("other", "5.00")
        async with connected(node.url, key) as client:
            await client.ended((await client.submitted(inputs={"cost_usd": "0.01"}))["run_id"])

        async def shown() -> bool:
            lines = node.ask_admin("GET", "/metrics").text.splitlines()
            balances = [line for line in lines if line.startswith("dpp_budget_balance_usd{")]
            return balances == ['dpp_budget_balance_usd{tenant_id="acme"} 2.99']

        await until(shown)
        assert node.counted("dpp_settled_micros_total") == 10_000
        assert node.counted("dpp_reserved_micros_total") == 10_000
        assert node.counted('dpp_run_duration_seconds_count{pack="echo"}') == 1
        assert node.counted('dpp_endings_total{status="COMPLETED"}') == 1
