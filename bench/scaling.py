"""What one, two and three nodes on one PostgreSQL carry, and what a run costs each part.

    python -m bench.scaling [--nodes 1 2 3] [--runs N] [--json]

`echo` runs in batches over HTTP, some tenants a node, until all are COMPLETED and settled. Beside
the rate: processor time by process, and what a run costs PostgreSQL in WAL, commits and rows.
Nodes, PostgreSQL and the client share the machine, so where it has few cores the costs are what
carries over, not the rates.
"""

import argparse
import asyncio  # noqa: TID251 - it talks to PostgreSQL directly
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from bench.audit import cpu_s, make, parent_of
from bench.throughput import body, held, post_all
from dpp.store import roles
from tests.cluster import Cluster, start_cluster
from tests.node_process import NodeProcess, nodes_on

BATCH = 500
TENANTS = 4  # of each node's clients
CLIENTS = 2  # connections to each node
SETTLE_S = 1.5  # until every backend has told its counters
CONFIG = '[log]\nlevel = "WARNING"\n'
COUNTS = """
select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as wal,
       (select xact_commit from pg_stat_database where datname = current_database()) as commits,
       (select sum(n_tup_ins + n_tup_upd) from pg_stat_user_tables where schemaname = 'dpp')
         as versions, pg_backend_pid() as pid
"""


def counts(host: str) -> dict[str, int]:
    """Return what PostgreSQL has counted so far."""

    async def ask() -> dict[str, int]:
        server = await asyncpg.connect(host=host, user="postgres", database=roles.DATABASE)
        row = await server.fetchrow(COUNTS)
        assert row is not None
        found = {name: int(row[name]) for name in ("wal", "commits", "versions")}
        found["postmaster"] = parent_of(row["pid"])
        await server.close()
        return found

    return asyncio.run(ask())


def node_s(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def submit(nodes: Sequence[NodeProcess], keys: list[str], runs: int) -> list[str]:
    """Send all batches, some connections to each node; returns what failed."""
    failed: list[str] = []
    bodies = [body(first, min(BATCH, runs - first)) for first in range(0, runs, BATCH)]
    connections = CLIENTS * len(nodes)
    clients = [
        threading.Thread(
            target=post_all,
            args=(nodes[n % len(nodes)], keys[n % len(keys)], bodies[n::connections], failed),
        )
        for n in range(connections)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return failed


def measure(cluster: Cluster, count: int, runs: int) -> dict[str, Any]:
    """Run so many nodes and runs; returns the figures."""
    asyncio.run(make(cluster.host))
    with nodes_on(cluster.host, roles.DATABASE, *[CONFIG] * count) as nodes:
        for node in nodes:
            node.start()
        keys = [nodes[0].tenant(f"bench-{n}", "100000.00") for n in range(TENANTS * count)]
        before, own = counts(cluster.host), resource.getrusage(resource.RUSAGE_SELF)
        used = [node_s(node.pid) for node in nodes]
        postgres_s, began_at = cpu_s(before["postmaster"]), time.perf_counter()
        failed = submit(nodes, keys, runs)
        while held(nodes[0], keys):
            time.sleep(0.05)  # noqa: TID251 - no loop runs here
        took_s = time.perf_counter() - began_at
        postgres_s = cpu_s(before["postmaster"]) - postgres_s
        used = [node_s(node.pid) - past for node, past in zip(nodes, used, strict=True)]
        ours = resource.getrusage(resource.RUSAGE_SELF)
        client_s = ours.ru_utime + ours.ru_stime - own.ru_utime - own.ru_stime
        time.sleep(SETTLE_S)  # noqa: TID251 - no loop runs here
        after = counts(cluster.host)
        audit = nodes[0].admin("GET", "/admin/v1/audit")
    whole = sum(used) + postgres_s + client_s
    return {
        "nodes": count,
        "runs_per_s": round(runs / took_s),
        "node_ms_a_run": round(1000 * sum(used) / runs, 3),
        "postgres_ms_a_run": round(1000 * postgres_s / runs, 3),
        "client_ms_a_run": round(1000 * client_s / runs, 3),
        "postgres_share": round(postgres_s / whole, 2),
        "cores_used": round(whole / took_s, 2),
        "wal_bytes_a_run": round((after["wal"] - before["wal"]) / runs),
        "commits_a_run": round((after["commits"] - before["commits"]) / runs, 3),
        "row_versions_a_run": round((after["versions"] - before["versions"]) / runs, 2),
        "load": round(os.getloadavg()[0], 1),
        "ok": audit["ok"] and not failed,
    }


def main() -> int:
    """Measure and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    lines = []
    for count in given.nodes:
        with tempfile.TemporaryDirectory(prefix="dpp-bench-") as directory:
            cluster = start_cluster(Path(directory), max_connections=100)
            try:
                lines.append(measure(cluster, count, given.runs))
            finally:
                cluster.stop()
        print(json.dumps(lines[-1]), file=sys.stderr)
    if given.json:
        print(json.dumps(lines))
    else:
        for name in lines[0]:
            print(f"{name:>20}", *(f"{line[name]!s:>10}" for line in lines))
    return 0 if all(line["ok"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
