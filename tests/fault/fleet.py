"""The fleet of a storm: nodes on one PostgreSQL, each behind a wire of its own, with one store of results.

Where PgBouncer is there, all but the first go through one. With a cloud, results over a few KiB go
to its bucket, and hints through its queue. Without one all nodes have the same directory under
`blobs`, where root may mount (a bind mount: the product follows no symbolic link there); elsewhere
results stay in their rows. Where libfaketime is there, the last node's wall clock is an hour ahead;
where redis-server is, they have one between them.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import trio
from attrs import define

from dpp.store import roles
from tests.aws.cloud import Cloud
from tests.cluster import Cluster
from tests.fault.clock import HOUR_S, skewed
from tests.fault.disk import bound, why_no_mounts
from tests.fault.wires import NodeWire, node_wire
from tests.node_process import NodeProcess, node_process
from tests.pgbouncer import Bouncer, pgbouncer
from tests.redis_server import PROGRAM, RedisServer, redis_server

LEASE_S, HEARTBEAT_S, REAPER_S, TIMEBOX_S = 4, 1, 1, 10
# Server connections: in a session one for each of a node's, in a transaction fewer than nodes have.
POOL_SIZES = {"session": 40, "transaction": 8}
SHARED_INLINE, INLINE_MAX = 4 << 10, 8 << 20  # bytes of a result in its row
START_TRIES, START_PAUSE_S = 40, 0.5  # PostgreSQL and the wire are away for some seconds at most
CONFIG = f"""
[database]
url = "postgresql://dpp_app@/dpp?host={{wire}}"
migrations_url = "postgresql://{roles.OWNER}@/dpp?host={{host}}"
[lease]
lease_s = {LEASE_S}
heartbeat_interval_s = {HEARTBEAT_S}
[reaper]
interval_s = {REAPER_S}
[reconcile]
interval_s = 1
[node]
drain_s = 3
[runs]
timebox_s = {TIMEBOX_S}
attempts_max = 20
inline_max_bytes = {{inline}}
[webhooks]
allow_loopback = true
[redis]
url = "{{redis}}"
"""


@define(eq=False)
class Member:
    """One node, its wire, and what the storm just does with it."""

    name: str
    node: NodeProcess
    wire: NodeWire
    taken: bool = False  # by a fault; no other one takes it
    may_end: bool = False  # somebody ends it on purpose

    def start(self) -> None:
        """Start the node; while PostgreSQL is away it ends at once, and is started again."""
        for _ in range(START_TRIES):
            self.node.launch()
            try:
                self.node.wait_ready()
            except AssertionError:
                if self.node.running:
                    raise
                self.node.wait_ended()
                time.sleep(START_PAUSE_S)
            else:
                return
        raise AssertionError(self.node.tail())


@define(eq=False)
class Fleet:
    """All of them. `results`: the directory that they share, where that is the store of results.

    They share none where it is None: they have a `cloud`, or keep results in rows.
    """

    members: list[Member]
    results: Path | None
    skewed: str = ""  # whose wall clock is wrong
    pooler: Bouncer | None = None  # before all but the first node
    redis: RedisServer | None = None
    cloud: Cloud | None = None

    @property
    def shares_results(self) -> bool:
        """Say whether large results have a place that all nodes reach."""
        return self.results is not None or self.cloud is not None

    @property
    def inline_max_bytes(self) -> int:
        """Return how many bytes of a result stay in its row."""
        return SHARED_INLINE if self.shares_results else INLINE_MAX

    async def digests(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """Return the SHA-256 of each of these results that is there; in the bridge's thread."""
        if self.cloud is not None:
            return await self.cloud.digests(names)
        assert self.results is not None
        files = {name: self.results / name for name in names}
        # What an object says of itself is its first line, and DPP's affair.
        return {
            name: hashlib.sha256(file.read_bytes().partition(b"\n")[2]).digest()
            for name, file in files.items()
            if file.is_file()
        }

    @property
    def first(self) -> NodeProcess:
        """Return the node that is asked for what any could answer."""
        return self.members[0].node

    async def start(self) -> None:
        """Start all of them, the first one after it has migrated."""
        await trio.to_thread.run_sync(migrate, self.first)
        async with trio.open_nursery() as nursery:
            for member in self.members:
                nursery.start_soon(trio.to_thread.run_sync, member.start)

    async def terminate(self) -> list[int]:
        """Let all of them drain; returns how each ended."""
        ended = []
        for member in self.members:
            member.may_end = True
            ended.append(await trio.to_thread.run_sync(member.node.terminate))
        return ended


def gather(
    stack: ExitStack,
    cluster: Cluster,
    base: Path,
    *,
    count: int,
    seed: int,
    mode: str | None = None,
    cloud: Cloud | None = None,
) -> Fleet:
    """Bring a fleet about; no node runs yet. `mode`: of the pooler before all but the first."""
    pooler = None
    if mode is not None:
        size = POOL_SIZES[mode]
        pooler = stack.enter_context(pgbouncer(cluster.host, mode, pool_size=size))
    hosts = [pooler.host if pooler and n else cluster.host for n in range(count)]
    wires = [stack.enter_context(node_wire(host, seed + n)) for n, host in enumerate(hosts)]
    results = base / "results" if cloud is None and why_no_mounts() is None else None
    off = [skewed(HOUR_S) if n == count - 1 else {} for n in range(count)]
    redis = stack.enter_context(redis_server()) if PROGRAM else None
    url = "" if redis is None else redis.url
    name = f"node {count - 1}" if off[-1] else ""
    fleet = Fleet([], results, name, pooler, redis, cloud)
    for n, wire in enumerate(wires):
        config = CONFIG.format(
            host=cluster.host, wire=wire.host, inline=fleet.inline_max_bytes, redis=url
        )
        config += cloud.config if cloud else ""
        env = {"DPP_LOG__LEVEL": "WARNING", **off[n]}
        node = stack.enter_context(node_process(config, env))
        node.host = cluster.host
        fleet.members.append(Member(f"node {n}", node, wire))
    if cloud is None:
        share(stack, [member.node for member in fleet.members], results)
    return fleet


def share(stack: ExitStack, nodes: list[NodeProcess], results: Path | None) -> None:
    """Give all nodes one store of results: a directory, or only its id, where nothing is stored."""
    store_id = f"{uuid4()}\n"
    if results is not None:
        results.mkdir(mode=0o700)
        (results / "store_id").write_text(store_id)
    for node in nodes:
        node.results.mkdir(parents=True, mode=0o700)
        if results is None:
            (node.results / "store_id").write_text(store_id)
        else:
            stack.enter_context(bound(results, node.results))


def migrate(node: NodeProcess) -> None:
    """Bring the schema up by the command that an operator uses."""
    file = node.home / "migrate.toml"
    file.write_text(node.config)
    command = [sys.executable, "-m", "dpp", "migrate", "up", "--config", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
