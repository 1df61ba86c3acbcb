"""Hostile requests against a real node, as many as are asked for, and then its books.

    python -m tests.fuzz.run [--requests N] [--seed N] [--seconds S] [--server NAME]
                             [--only N] [--json]

The seed is printed first. Held to: the process lives, no answer is a 5xx but a 503 that says when
to ask again, every answer is HTTP and every refusal a known problem, no connection faults are
counted, the process grows by less than 50 MB once it is warm, the money checker and the audit find
nothing, and each acknowledged run is there. A case that fails prints its bytes and what repeats it.
"""

# ruff: noqa: T201 - a command: it prints its table
from __future__ import annotations

import argparse
import asyncio  # noqa: TID251 - it asks the database when the node is at rest
import json
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from attrs import define, field

from tests.fuzz.cases import Keys
from tests.fuzz.client import Crew, Tally, numbers
from tests.node_books import judge_now
from tests.node_process import NO_TLS, NodeProcess, node_process

THREADS = 12  # connections at once
GROWTH_MAX = 50 << 20
WARM = 0.1  # of the requests: caches, pools and the allocator have what they want by then
FAILURES_MAX = 10  # then it ends
PROGRESS_S = 10.0
RESTING_S = 30.0  # until the last runs have ended
SCOPES = ["runs:write", "runs:read", "budget:read"]
CONFIG = """
[http]
cors_allowed_origins = ["https://app.example.com"]
"""


@define
class Watch:
    """The memory of a process over time."""

    pid: int
    samples: list[tuple[int, int]] = field(factory=list)  # requests, bytes

    def look(self, requests: int) -> int:
        """Take a sample; return it in bytes."""
        status = (Path("/proc") / str(self.pid) / "status").read_text()
        size = int(status.partition("VmRSS:")[2].split()[0]) << 10
        self.samples.append((requests, size))
        return size

    def growth(self, total: int) -> int:
        """Return by how much it grew from when it was warm to its largest."""
        warm = [size for requests, size in self.samples if requests >= WARM * total]
        return max(warm) - warm[0] if warm else 0


def main() -> int:
    """Run what the command line asks for."""
    asked = parser().parse_args()
    print(f"seed {asked.seed}", file=sys.stderr, flush=True)
    with node_process(CONFIG, {"DPP_HTTP__SERVER": asked.server}) as node:
        table = run(node.start(), asked)
    if asked.json:
        print(json.dumps(table, indent=1))
    else:
        show(table)
    return 1 if table["wrong"] else 0


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--server", choices=("actor", "hypercorn"), default="actor")
    parser.add_argument("--only", type=int, help="the number of one case")
    parser.add_argument("--json", action="store_true")
    return parser


def run(node: NodeProcess, asked: argparse.Namespace) -> dict[str, Any]:
    """Send the requests, let the node come to rest, and judge."""
    tenants = ("fuzz", "fuzz-keys")
    for name in tenants:
        node.tenant(name, "1000000.00")
    keys = Keys(node.new_key("fuzz", scopes=SCOPES), node.new_key("fuzz-keys"))
    target, watch = httpx.URL(node.url), Watch(node.pid)
    crew = Crew((target.host, target.port or 0), asked.seed, keys, numbers(asked.only), THREADS)
    began_at = said_at = time.perf_counter()

    def enough(crew: Crew) -> bool:
        nonlocal said_at
        now, sent = time.perf_counter(), crew.requests
        if not node.running:
            return True
        if now - said_at >= PROGRESS_S:
            said_at, size = now, watch.look(sent)
            rate = sent / (now - began_at)
            print(
                f"{sent} requests, {rate:.0f}/s, {size >> 20} MB, {crew.failures} failures",
                file=sys.stderr,
                flush=True,
            )
        over = sent >= asked.requests or now - began_at >= asked.seconds
        return over or crew.failures >= FAILURES_MAX

    watch.look(0)
    tally = crew.run(enough)
    took_s = time.perf_counter() - began_at
    for failure in tally.failures[:FAILURES_MAX]:
        print(failure.told(), file=sys.stderr, flush=True)
    wrong = [failure.why for failure in tally.failures]
    books: dict[str, int] = {}
    if node.running:
        watch.look(tally.requests)
        books = asyncio.run(_books(node, tally))
        wrong += judged(node, watch, tally, books)
    else:
        wrong.append(f"the process ended with {node.process.poll()}:\n{node.tail()}")
    return {
        "seed": asked.seed,
        "server": asked.server,
        "requests": tally.requests,
        "connections": tally.connections,
        "seconds": round(took_s, 1),
        "requests_a_second": round(tally.requests / took_s),
        "kinds": dict(tally.kinds.most_common()),
        "answers": dict(tally.statuses.most_common()),
        "rss_mb": [size >> 20 for _, size in _few(watch.samples)],
        "rss_growth_mb": round(watch.growth(tally.requests) / (1 << 20), 1),
        "books": books,
        "wrong": wrong,
    }


def judged(node: NodeProcess, watch: Watch, tally: Tally, books: dict[str, int]) -> list[str]:
    """Return what is wrong with the node after all that."""
    wrong = []
    if books["lost"]:
        wrong.append(f"{books['lost']} acknowledged runs are not there")
    if books["live"]:
        wrong.append(f"{books['live']} runs have not ended")
    growth = watch.growth(tally.requests)
    if growth >= GROWTH_MAX:
        wrong.append(f"the process grew by {growth >> 20} MB")
    faults = node.counted("http_connection_faults_total")
    if faults:
        wrong.append(f"{faults:.0f} connection faults; the log has them")
    wrong += [f"logged: {line}" for line in node.troubles() if '"level":"warning"' not in line]
    try:
        judge_now(node)
    except AssertionError as error:
        wrong.append(f"the books: {error}")
    health = httpx.get(f"{node.url}/health", trust_env=False, timeout=10, verify=NO_TLS)
    if health.status_code != httpx.codes.OK:
        wrong.append(f"/health answers {health.status_code}")
    return wrong


async def _books(node: NodeProcess, tally: Tally) -> dict[str, int]:
    """Wait until nothing is live; return counts of runs: stored, acknowledged, lost, live."""
    connection = await asyncpg.connect(
        host=str(node.socket_dir), user="postgres", database=node.database
    )
    try:
        by = time.perf_counter() + RESTING_S
        while live := await connection.fetchval("select count(*) from dpp.live_runs"):
            if time.perf_counter() > by:
                break
            await asyncio.sleep(0.1)
        stored = await connection.fetchval("select count(*) from dpp.submissions")
        found = await connection.fetchval(
            "select count(*) from dpp.submissions where run_id = any($1::text[]::uuid[])",
            list(tally.runs),
        )
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
    told = len(tally.runs)
    return {"stored": stored, "acknowledged": told, "lost": told - found, "live": live}


def _few(samples: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """Return at most ten of the samples, the last among them."""
    step = max(len(samples) // 9, 1)
    return [*samples[::step], samples[-1]]


def show(table: dict[str, Any]) -> None:
    """Print the table for a person."""
    for name, value in table.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, count in value.items():
                print(f"  {count:>9}  {key}")
        elif name != "wrong":
            print(f"{name}: {value}")
    print("\n".join(table["wrong"]) or "nothing is wrong")


if __name__ == "__main__":
    sys.exit(main())
