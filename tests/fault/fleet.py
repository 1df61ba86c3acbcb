"""The fleet of a storm: nodes on one PostgreSQL, each behind a wire of its own, with one store of results.

Where root may mount, all nodes have the same directory under `blobs` (a bind mount: the product
follows no symbolic link there), and results over a few KiB go to it. Elsewhere results stay in
their rows. Where libfaketime is there, the last node's wall clock is an hour ahead.
"""  # noqa: E501

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import trio
from attrs import define, field

from dpp.store import roles
from tests.cluster import Cluster
from tests.fault.clock import HOUR_S, skewed
from tests.fault.disk import bound, why_no_mounts
from tests.fault.wires import NodeWire, node_wire
from tests.node_process import NodeProcess, node_process

LEASE_S, HEARTBEAT_S, REAPER_S, TIMEBOX_S = 4, 1, 1, 10
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
    """All of them. `results`: the directory that they share; None = they share none."""

    members: list[Member]
    results: Path | None
    skewed: str = ""  # whose wall clock is wrong
    inline_max_bytes: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.inline_max_bytes = INLINE_MAX if self.results is None else SHARED_INLINE

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


def gather(stack: ExitStack, cluster: Cluster, base: Path, count: int, seed: int) -> Fleet:
    """Bring a fleet about; no node runs yet."""
    wires = [stack.enter_context(node_wire(cluster.host, seed + n)) for n in range(count)]
    results = base / "results" if why_no_mounts() is None else None
    inline = INLINE_MAX if results is None else SHARED_INLINE
    off = [skewed(HOUR_S) if n == count - 1 else {} for n in range(count)]
    members = []
    for n, wire in enumerate(wires):
        config = CONFIG.format(host=cluster.host, wire=wire.host, inline=inline)
        env = {"DPP_LOG__LEVEL": "WARNING", **off[n]}
        node = stack.enter_context(node_process(config, env))
        node.host = cluster.host
        members.append(Member(f"node {n}", node, wire))
    share(stack, [member.node for member in members], results)
    return Fleet(members, results, members[-1].name if off[-1] else "")


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
