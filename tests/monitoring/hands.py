"""An operator's hands: what a runbook tells to type is run, on the node and the server of a fault.

Where a line asks systemd or names the places of a deployment, what stands here instead is put in
its place, and said: the node's log file for the journal, its ports, its process, its directory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import trio
from attrs import Factory, define, frozen

from tests.monitoring.pages import Typed, typed

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.monitoring.prometheus import Prometheus
    from tests.node_process import NodeProcess

DPP = f'dpp() {{ "{sys.executable}" -m dpp "$@"; }}'
LIMIT_S = 120.0  # of one command, on a busy machine
WORDS_MAX = 300  # of what a refused one said
# What a deployment has and a test has not.
NOT_HERE = {"aws ": "no queue of AWS here", "dpp doctor": "its own tests run it on each setting"}


@frozen
class Ran:
    """A line as it was run. `as_`: what stood in its place, "" = it ran as it is printed."""

    text: str
    as_: str
    status: int | None
    said: str
    skipped: str = ""


@define(eq=False)
class Hands:
    """Where an operator sits: on the machine of a node. `names`: what its variables stand for."""

    told: Prometheus
    node: NodeProcess
    bridge: Bridge
    names: dict[str, str] = Factory(dict)

    async def follow(self, runbook: str, section: str = "Look at") -> list[Ran]:
        """Type all that a section of a runbook prints."""
        return [await self.type(one) for one in typed(runbook) if one.section == section]

    async def type(self, line: Typed) -> Ran:
        """Type one line."""
        for start, why in NOT_HERE.items():
            if line.text.startswith(start):
                return Ran(line.text, "", None, "", why)
        if line.kind == "export":
            name = line.text.removeprefix("export ").partition("=")[0]
            return Ran(line.text, f"{name}={self.names[name]}", 0, "")
        if line.kind == "promql":
            return await self._ask_prometheus(line.text)
        if line.kind == "sql":
            return await self._ask_server(line.text)
        text = self.here(line.text)
        status, said = await trio.to_thread.run_sync(self._shell, text)
        return Ran(line.text, "" if text == line.text else text, status, said)

    def here(self, line: str) -> str:
        """Put what is here in the place of what a deployment has."""
        log = self.node.logs[-1]
        for pattern, instead in (
            (r"journalctl -u dpp -o cat(?: --since \S+)?(?: -n (\d+))?", f"cat {log}"),
            (r"systemctl status dpp", f"ps -o stat,etime,args -p {self.node.process.pid}"),
            (r"top -H -p \"\$\(systemctl [^)]*\)\"", f"top -b -n 1 -H -p {self.node.process.pid}"),
            (r"http://127\.0\.0\.1:8080", self.node.url),
            (r"http://127\.0\.0\.1:9090", self.node.management_url),
            (r"/var/lib/dpp\b", str(self.node.data_dir)),
            (r"promtool check config prometheus\.yml",
             f"promtool check config {self.told.home}/prometheus.yml"),
            (r"--tenant TENANT\b", f"--tenant {self.names.get('TENANT', 'TENANT')}"),
        ):  # fmt: skip
            line = re.sub(pattern, lambda _, instead=instead: instead, line)
        return line

    def _shell(self, text: str) -> tuple[int, str]:
        ended = subprocess.run(
            [
                "bash",
                "-c",
                f'dpp() {{ "{sys.executable}" -m dpp "$@"; }}; {text}',
            ],
            check=False,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
        )
        return ended.returncode, (ended.stdout + ended.stderr)[-WORDS_MAX:]

    def _environment(self) -> Mapping[str, str]:
        bare = {name: text for name, text in os.environ.items() if not name.startswith("DPP_")}
        config = self.node.home / "dpp.toml"
        where = {"DPP_DATA_DIR": str(self.node.data_dir), "DPP_CONFIG": str(config)}
        return {**bare, **self.node.env, **where, **self.names}

    async def _ask_prometheus(self, query: str) -> Ran:
        await trio.lowlevel.checkpoint()
        try:
            found = self.told.query(query)
        except AssertionError as refused:
            return Ran(query, "", 1, str(refused)[:WORDS_MAX])
        return Ran(query, "", 0, f"{len(found)} series")

    async def _ask_server(self, statement: str) -> Ran:
        try:
            rows: Any = await self.bridge.run(partial(fetch, self.node, statement))
        except (OSError, asyncpg.PostgresError) as refused:
            return Ran(statement, "", 1, str(refused)[:WORDS_MAX])
        return Ran(statement, "", 0, f"{len(rows)} rows")


async def fetch(node: NodeProcess, statement: str) -> Any:
    """Ask the server of a node as its superuser."""
    connection = await asyncpg.connect(
        host=str(node.socket_dir), user="postgres", database=node.database
    )
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
