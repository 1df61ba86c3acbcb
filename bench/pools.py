"""What it costs to keep no connections, and to come through a pooler: four nodes in turn.

    python -m bench.pools [--runs N] [--rounds N] [--json]

All work on one PostgreSQL with its defaults for durability, each on a database of its own: kept
connections and none kept (`database.pool`), to the server itself and through PgBouncer in
transaction mode. Figures are the best of the rounds, since others use the machine too.
"""

import argparse
import asyncio  # noqa: TID251 - it makes databases, where no loop runs
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any

import asyncpg
import httpx

from bench.throughput import measure
from dpp.store import migrate, roles
from tests.cluster import Cluster, start_cluster
from tests.node_process import NO_TLS, NodeProcess, node_process
from tests.pgbouncer import PROGRAM, pgbouncer

POOLS = ("queuepool", "nullpool")
SERVER_CONNECTIONS = 20  # of PgBouncer, its own default: more than the node asks for at once
ALONE = 100  # runs submitted one after another, each waited for


async def make(host: str, database: str) -> None:
    """Make a migrated database."""
    server = await asyncpg.connect(host=host, user="postgres", database="postgres")
    await roles.ensure_roles(server)
    await server.execute(f"create database {database} owner {roles.OWNER}")
    await server.close()
    owner = await asyncpg.connect(host=host, user=roles.OWNER, database=database)
    await migrate.up(owner)
    await owner.close()


def alone_ms(node: NodeProcess) -> float:
    """Return the median of submit to COMPLETED, one run at a time, in ms."""
    key = node.tenant("alone", "100.00")
    took: list[float] = []
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(
        base_url=node.url, headers=headers, timeout=60, trust_env=False, verify=NO_TLS
    ) as client:
        for n in range(ALONE):
            body = {"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.01"}
            began_at = time.perf_counter()
            answer = client.post(
                "/v1/runs", json=body, headers={"Idempotency-Key": f"k{n}", "Prefer": "wait=10"}
            )
            took.append(1000 * (time.perf_counter() - began_at))
            assert answer.json()["status"] == "COMPLETED", answer.text
    return quantiles(took, n=2)[0]


def one_way(cluster: Cluster, entrance: str, pool: str, name: str, runs: int) -> dict[str, Any]:
    """Measure a node that comes this way."""
    asyncio.run(make(cluster.host, name))
    env = {
        "DPP_DATABASE__URL": f"postgresql://dpp_app@/{name}?host={entrance}",
        "DPP_DATABASE__POOL": pool,
        "DPP_LOG__LEVEL": "WARNING",
    }
    with node_process(env=env) as node:
        node.start()
        waited_ms = alone_ms(node)
        figures = measure(node, runs=runs, batch=500, tenants=4, connections=4)
        assert figures["audit_ok"], figures
        assert not figures["failed"], figures
    return {
        "completed_per_s": figures["completed_per_s"],
        "submit_per_s": figures["submit_per_s"],
        "alone_ms": round(waited_ms, 1),
    }


def best(earlier: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return the better of two, figure by figure."""
    return {
        name: min(earlier[name], value) if name.endswith("_ms") else max(earlier[name], value)
        for name, value in now.items()
    }


def main() -> int:
    """Measure and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    table: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="dpp-bench-") as directory, ExitStack() as stack:
        cluster = start_cluster(Path(directory), syncs=True)
        stack.callback(cluster.stop)
        ways = {"direct": cluster.host}
        if PROGRAM.exists():
            between = stack.enter_context(pgbouncer(cluster.host, pool_size=SERVER_CONNECTIONS))
            ways["pgbouncer"] = between.host
        for n in range(given.rounds):
            for way, entrance in ways.items():
                for pool in POOLS:
                    name = f"{way}_{pool}_{n}"
                    now = one_way(cluster, entrance, pool, name, given.runs)
                    key = f"{way}, {pool}"
                    table[key] = best(table.get(key, now), now)
    if given.json:
        print(json.dumps(table))
    else:
        for name, figures in table.items():
            print(f"{name:>22}  {figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
