"""`POST /v1/runs` beside FastAPI + uvicorn + asyncpg with one money transaction a request.

    python -m bench.submits [--requests N] [--connections N] [--rounds N] [--json]

Both keep their rows in the same PostgreSQL (DPP's embedded one, durable by its defaults), answer
the same client, and run in turn, round by round, so that whatever else the machine does hits both.
The peer executes nothing. So of DPP there are two figures: its runs wait for tomorrow and only the
submit is compared, or it executes and settles them meanwhile. One tenant with all requests, then a
hundred tenants. A ratio is the median of the rounds' ratios: neighbours in time share their luck,
and the best of one with the best of another do not.
"""

import argparse
import asyncio  # noqa: TID251 - asyncpg needs it, and there is no node here
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import asyncpg
import httpx

from bench.clients import Load, Request, put
from bench.node import Served, serve
from bench.peers import ledger_app

PEER = "bench_peer"
SERVERS = SUBMITS, FASTAPI, EXECUTES = "dpp", "fastapi", "dpp_executes"
BY_ROUND = {SUBMITS: "ratio_by_round", EXECUTES: "ratio_executes_by_round"}
ROUNDS = 5
TENANTS = (1, 100)
INPUTS = {"message": "a small request, as most are"}


def posts(keys: list[str], run: str, *, queued: bool) -> Request:
    """Return the requests: `keys` in turn, each with an idempotency key of its own."""
    members: dict[str, Any] = {"pack_type": "echo", "inputs": INPUTS, "max_cost_usd": "0.01"}
    if queued:  # they wait for tomorrow: only the submit is measured
        members["run_at"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()  # noqa: TID251
    body = json.dumps(members).encode()

    def request(n: int) -> bytes:
        return (
            b"POST /v1/runs HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nIdempotency-Key: %b-%d\r\nContent-Length: %d\r\n\r\n%b"
        ) % (keys[n % len(keys)].encode(), run.encode(), n, len(body), body)

    return request


async def make_peer(host: str, keys: list[str]) -> None:
    """Make the peer's database with a tenant a key, each with plenty."""
    system = await asyncpg.connect(host=host, user="postgres", database="postgres")
    await system.execute(f"create database {PEER}")
    await system.close()
    peer = await asyncpg.connect(host=host, user="postgres", database=PEER)
    await peer.execute(ledger_app.SCHEMA)
    rows = [(hashlib.sha256(key.encode()).digest(), f"t{n}") for n, key in enumerate(keys)]
    await peer.executemany("insert into keys values ($1, $2)", rows)
    await peer.executemany(
        "insert into budgets values ($1, 1000000000000, 0)", [(name,) for _, name in rows]
    )
    await peer.close()


@contextmanager
def peer(served: Served, keys: list[str]) -> Iterator[str]:
    """Run the peer on the node's PostgreSQL; returns its address."""
    host = str(served.socket_dir)
    asyncio.run(make_peer(host, keys))
    dsn = f"postgresql:///{PEER}?host={host}&user=postgres"
    command = [sys.executable, "-m", "uvicorn", "bench.peers.ledger_app:app", "--port", "18081"]
    command += ["--log-level", "warning", "--no-access-log"]
    child = subprocess.Popen(command, env={**os.environ, "PEER_DSN": dsn})
    url = "http://127.0.0.1:18081"
    try:
        for _ in range(300):
            try:
                httpx.get(url, trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.1)  # noqa: TID251 - another process starts
        yield url
    finally:
        child.terminate()
        child.wait()


def told(load: Load) -> dict[str, Any]:
    """Return the figures of one load."""
    assert set(load.statuses) == {201}, load.statuses
    ranked = sorted(load.took_s)
    return {
        "requests_per_s": round(load.rate),
        "p50_ms": round(statistics.median(ranked) * 1000, 1),
        "p95_ms": round(ranked[int(len(ranked) * 0.95)] * 1000, 1),
    }


async def until_executed(host: str) -> None:
    """Wait until the node has nothing in hand that would go on beside the next."""
    books = await asyncpg.connect(host=host, user="postgres", database="dpp")
    due = "select exists (select from dpp.live_runs where available_at <= now())"
    while await books.fetchval(due):  # noqa: ASYNC110 - another process works
        await asyncio.sleep(0.1)
    await books.close()


def compare(
    served: Served, url: str, keys: list[str], *, requests: int, connections: int, rounds: int
) -> dict[str, Any]:
    """Return the best of all rounds of each server, and the ratios, with one tenant a key."""
    each: dict[str, list[dict[str, Any]]] = {name: [] for name in SERVERS}
    for turn in range(rounds):
        for name in (*SERVERS[turn % 3 :], *SERVERS[: turn % 3]):  # each comes after each
            ask = posts(keys, f"{name}-{len(keys)}-{turn}", queued=name == SUBMITS)
            target = url if name == FASTAPI else served.url
            figures = told(put(target, requests, connections, ask))
            asyncio.run(until_executed(str(served.socket_dir)))
            print(f"{len(keys)} tenants, {name}: {figures}", file=sys.stderr)
            each[name].append(figures)
    best = {name: max(of, key=itemgetter("requests_per_s")) for name, of in each.items()}
    return {"tenants": len(keys), **best, **ratios(each)}


def measure(*, requests: int, connections: int, rounds: int) -> list[dict[str, Any]]:
    """Return a line for each number of tenants."""
    with serve() as served:
        keys = [served.tenant(f"t{n}", "100000.00") for n in range(max(TENANTS))]
        with peer(served, keys) as url:
            lines = [
                compare(
                    served,
                    url,
                    keys[:tenants],
                    requests=requests,
                    connections=connections,
                    rounds=rounds,
                )
                for tenants in TENANTS
            ]
        assert served.admin("GET", "/admin/v1/audit")["ok"], "the books do not hold"
    return lines


def ratios(each: dict[str, list[dict[str, Any]]]) -> dict[str, float | list[float]]:
    """Return what DPP does of what the peer does, by round and in the middle."""

    def by_round(name: str) -> list[float]:
        pairs = zip(each[name], each[FASTAPI], strict=True)
        return [round(ours["requests_per_s"] / peers["requests_per_s"], 2) for ours, peers in pairs]

    return {
        "ratio": statistics.median(by_round(SUBMITS)),
        "ratio_by_round": by_round(SUBMITS),
        "ratio_executes": statistics.median(by_round(EXECUTES)),
        "ratio_executes_by_round": by_round(EXECUTES),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    lines = measure(requests=asked.requests, connections=asked.connections, rounds=asked.rounds)
    if asked.json:
        print(json.dumps(lines))
        return 0
    print(f"{'tenants':>8} {'server':>14} {'submits/s':>10} {'p95 ms':>8} {'ratio':>6}  by round")
    for line in lines:
        shares = {FASTAPI: 1.0, SUBMITS: line["ratio"], EXECUTES: line["ratio_executes"]}
        for name, share in shares.items():
            one = line[name]
            by_round = line[BY_ROUND[name]] if name in BY_ROUND else ""
            print(
                f"{line['tenants']:>8} {name:>14} {one['requests_per_s']:>10}"
                f" {one['p95_ms']:>8} {share:>6.2f}  {by_round}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
