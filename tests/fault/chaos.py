"""A storm over several nodes on one PostgreSQL: load, faults, heal, wait, check, one table.

    python -m tests.fault.chaos [--seconds S] [--seed N] [--nodes N] [--json]

The seed and the log of faults are printed first. Every acknowledged run must end once and at its
price, whatever was killed, frozen, cut or restarted meanwhile; three judges, two of them not DPP's
own code, look at the books and at what clients were told. Results stay in their rows here: the
nodes share no store for others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import trio
from attrs import define, field

from dpp.store import roles
from dpp.store.bridge import Bridge, open_bridge
from tests.cluster import Cluster, start_cluster
from tests.node.load import Load
from tests.node_process import NodeProcess, node_process
from tests.oracle import history as told
from tests.oracle import money
from tests.oracle.history import History, read_facts

LEASE_S = 4
CONFIG = f"""
[database]
url = "postgresql://dpp_app@/dpp?host={{host}}"
migrations_url = "postgresql://{roles.OWNER}@/dpp?host={{host}}"
[lease]
lease_s = {LEASE_S}
heartbeat_interval_s = 1
[reaper]
interval_s = 1
[reconcile]
interval_s = 1
[node]
drain_s = 3
[runs]
attempts_max = 20
inline_max_bytes = "8 MiB"
"""
TENANTS = 4
QUIET_S = (0.2, 1.2)  # between two faults
DOWN_S = (0.0, 2.0)
# How often each fault comes, so that none drowns the others.
WEIGHTS = {
    "kill": 5,
    "freeze": 4,
    "drain": 3,
    "terminate": 6,
    "stop_immediate": 2,
    "kill_server": 1,
}
BACKENDS = """
select pid from pg_stat_activity where usename = 'dpp_app' and pid <> pg_backend_pid()
"""


@define(eq=False)
class Storm:
    """What is hit, what hits it, and what was counted."""

    cluster: Cluster
    nodes: list[NodeProcess]
    bridge: Bridge
    dice: Random
    began_at: float = field(factory=time.monotonic)
    hits: Counter[str] = field(factory=Counter)
    zombies: Counter[str] = field(factory=Counter)

    async def rage(self, seconds: float) -> None:
        """Hit one thing after another for so long; what was hit is up again afterwards."""
        until_at = trio.current_time() + seconds
        while trio.current_time() < until_at:
            await trio.sleep(self.dice.uniform(*QUIET_S))
            (fault,) = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
            print(f"{time.monotonic() - self.began_at:8.2f} s  {fault}", file=sys.stderr)
            self.hits[fault] += 1
            await getattr(self, fault)()

    async def kill(self) -> None:
        """Kill -9 a node, and start it again a little later."""
        node = self.dice.choice(self.nodes)
        self.count(node)
        await trio.to_thread.run_sync(node.kill9)
        await trio.sleep(self.dice.uniform(*DOWN_S))
        await trio.to_thread.run_sync(self.start, node)

    async def drain(self) -> None:
        """SIGTERM a node, and start it again."""
        node = self.dice.choice(self.nodes)
        self.count(node)
        status = await trio.to_thread.run_sync(node.terminate)
        assert status == 0, f"drained with {status}\n{node.tail()}"
        await trio.to_thread.run_sync(self.start, node)

    async def freeze(self) -> None:
        """Freeze a node, for a moment or past its lease."""
        node = self.dice.choice(self.nodes)
        node.signal(signal.SIGSTOP)
        await trio.sleep(self.dice.choice([0.3, LEASE_S + 2.5]))
        node.signal(signal.SIGCONT)

    async def terminate(self) -> None:
        """Cut a few of the nodes' connections at the server."""
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            count = self.dice.randrange(1, 6)
            await self.bridge.run(partial(cut, self.cluster.host, count, self.dice.random()))

    async def stop_immediate(self) -> None:
        """Stop PostgreSQL at once, and start it again."""
        await trio.to_thread.run_sync(self.cluster.crash, signal.SIGQUIT)

    async def kill_server(self) -> None:
        """Kill -9 the postmaster, and start it again."""
        await trio.to_thread.run_sync(self.cluster.crash, signal.SIGKILL)

    def start(self, node: NodeProcess) -> None:
        """Start a node; while PostgreSQL is away it ends at once, and is started again."""
        for _ in range(20):
            node.launch()
            try:
                node.wait_ready()
            except AssertionError:
                if node.running:
                    raise
                node.wait_ended()
                time.sleep(0.5)
            else:
                return
        raise AssertionError(node.tail())

    def count(self, node: NodeProcess) -> None:
        """Remember what a node has counted, before it is gone."""
        with suppress(Exception):
            text = node.ask_admin("GET", "/metrics").text
            for line in text.splitlines():
                if line.startswith(("dpp_zombie_writes", "dpp_commits_unknown", "dpp_actor")):
                    name, _, value = line.rpartition(" ")
                    self.zombies[name.partition("{")[0]] += int(float(value))


async def cut(host: str, count: int, share: float) -> None:
    """Terminate some backends of the nodes."""
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp", timeout=5)
    try:
        pids = [row["pid"] for row in await connection.fetch(BACKENDS)]
        first = int(share * len(pids))
        for pid in pids[first : first + count]:
            await connection.fetch("select pg_terminate_backend($1)", pid)
    finally:
        await connection.close(timeout=5)  # noqa: ASYNC102 - asyncio, where nobody cancels it


async def make_database(host: str) -> None:
    """Make roles and database; `dpp migrate up` does the rest."""
    await roles.make_database(host)


def migrate(node: NodeProcess) -> None:
    """Bring the schema up by the command that an operator uses."""
    file = node.home / "migrate.toml"
    file.write_text(node.config)
    command = [sys.executable, "-m", "dpp", "migrate", "up", "--config", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def share_identity(nodes: list[NodeProcess]) -> None:
    """Give all nodes the first one's store of results, which nothing is stored in here."""
    first, *others = nodes
    for node in others:
        (node.data_dir / "blobs").mkdir(parents=True, mode=0o700)
        shutil.copy(first.data_dir / "blobs" / "store_id", node.data_dir / "blobs" / "store_id")


async def storm(cluster: Cluster, stack: ExitStack, given: argparse.Namespace) -> dict[str, Any]:
    """Set up, load with faults, heal, wait, check; returns the table."""
    dice = Random(given.seed)
    async with open_bridge() as bridge:
        await bridge.run(partial(make_database, cluster.host))
        config = CONFIG.format(host=cluster.host)
        env = {"DPP_LOG__LEVEL": "WARNING"}
        nodes = [stack.enter_context(node_process(config, env)) for _ in range(given.nodes)]
        migrate(nodes[0])
        await trio.to_thread.run_sync(nodes[0].start)
        share_identity(nodes)
        for node in nodes[1:]:
            await trio.to_thread.run_sync(node.start)
        names = [f"acme-{n}" for n in range(TENANTS)]
        load = Load({name: nodes[0].tenant(name, "10000.00") for name in names}, dice)
        raging = Storm(cluster, nodes, bridge, Random(given.seed + 1))
        stop = trio.Event()
        async with trio.open_nursery() as senders:
            for n, tenant in enumerate(names * 2):
                senders.start_soon(send, load, nodes[n % len(nodes)], tenant, stop)
            await raging.rage(given.seconds)
            stop.set()
        for node in nodes:
            raging.count(node)
        unknown = await load.replay(nodes[0].url)
        await load.check(nodes[0].url)
        found = await bridge.run(partial(judge, cluster.host, load.history))
        audit = nodes[0].admin("GET", "/admin/v1/audit")
        spent, drift = await bridge.run(partial(sums, cluster.host))
    return {
        "seed": given.seed,
        "seconds": given.seconds,
        "nodes": given.nodes,
        **{f"hits: {name}": raging.hits[name] for name in WEIGHTS},
        "asked": len(load.asked),
        "acknowledged": sum(asked.run_id is not None for asked in load.asked),
        "answers lost": load.lost,
        "looks at runs": len(load.history.looks),
        "looks at budgets": len(load.history.balances),
        "answers 503": load.refused,
        "unknown until replayed": unknown,
        "attempts retried": spent,
        **dict(sorted(raging.zombies.items())),
        "drift in micro-dollars": drift,
        "violations": found,
        "audit": "clean" if audit["ok"] else audit,
    }


async def send(load: Load, node: NodeProcess, tenant: str, stop: trio.Event) -> None:
    """Send to one node, wherever it listens by now."""
    while not stop.is_set():
        moved = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, node.url, node, stop, moved)
            await load.send(node.url, tenant, moved)
            nursery.cancel_scope.cancel()


async def watch(url: str, node: NodeProcess, stop: trio.Event, moved: trio.Event) -> None:
    """Say when a node listens elsewhere, or all is over."""
    while node.url == url and not stop.is_set():  # noqa: ASYNC110
        await trio.sleep(0.05)
    moved.set()


async def judge(host: str, history: History) -> list[Any]:
    """Ask the two judges that are not DPP's own."""
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp")
    try:
        facts = await read_facts(connection)
        found = [*await money.violations(connection, None), *told.violations(history, facts)]
        return [str(one) for one in found]
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


async def sums(host: str) -> tuple[int, int]:
    """Return attempts that were spent, and what the books are off by."""
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp")
    try:
        spent = await connection.fetchval("select sum(attempts_spent) from dpp.endings")
        drift = await connection.fetchval(
            """
            select (select sum(case kind when 'withdraw' then -amount else amount end)
                      from dpp.transfers where kind <> 'refund')
                 - (select sum(available + held + spent) from dpp.budgets)
            """
        )
        return int(spent or 0), int(drift)
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


def main() -> int:
    """Run the storm and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    given.seed = Random().randrange(10**6) if given.seed is None else given.seed
    table = run(given)
    if given.json:
        print(json.dumps(table))
    else:
        for name, value in table.items():
            print(f"{name:>32}  {value}")
    return 0 if is_good(table) else 1


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run one storm on a PostgreSQL of its own."""
    print(f"seed {given.seed}", file=sys.stderr)
    base = Path(tempfile.mkdtemp(prefix="dpp-chaos-"))
    base.chmod(0o755)
    cluster = start_cluster(base, max_connections=100)
    try:
        with redirect_stdout(sys.stderr), ExitStack() as stack:  # what nodes logged of trouble
            return trio.run(storm, cluster, stack, given)
    finally:
        cluster.stop()
        shutil.rmtree(base, ignore_errors=True)


def is_good(table: Mapping[str, Any]) -> bool:
    """Say whether nothing leaked."""
    wrong = table["violations"] or table["drift in micro-dollars"]
    return table["audit"] == "clean" and not wrong


if __name__ == "__main__":
    sys.exit(main())
