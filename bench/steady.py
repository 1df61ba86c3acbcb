"""What clients wait at a steady 100 requests a second, half submits, half reads, of one node.

    python -m bench.steady [--rate N] [--seconds S] [--tenants N] [--json]

Requests come at their times, whether earlier ones were answered or not, and each is timed from the
moment it was due: one slow answer counts for all that it delays. The runs that are submitted are
executed and settled meanwhile, each read is of a run bought before. Promised: p95 under 100 ms at
100 requests a second. The audit must be clean.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import trio
from attrs import define, field

from bench.node import Served, serve
from tests.node_process import NO_TLS

PROMISED_MS = 100
WARM_UP_S = 2.0  # connections are opened, plans of queries made
CONNECTIONS = 64  # more than are ever in use where the promise holds


@define(eq=False)
class Clients:
    """All of them, and how long each of their requests took, in seconds."""

    keys: list[str]
    http: httpx.AsyncClient
    bought: list[tuple[str, str]] = field(factory=list)  # a key and a run of its tenant
    submits_s: list[float] = field(factory=list)
    reads_s: list[float] = field(factory=list)

    async def submit(self, n: int) -> None:
        """Buy a run."""
        key = self.keys[n % len(self.keys)]
        body = {"pack_type": "echo", "inputs": {"message": "hello"}, "max_cost_usd": "0.01"}
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": uuid4().hex}
        answer = await self.http.post("/v1/runs", json=body, headers=headers)
        assert answer.status_code == httpx.codes.CREATED, answer.text
        self.bought.append((key, answer.json()["run_id"]))

    async def read(self, n: int) -> None:
        """Look at a run that was bought some time ago."""
        key, run_id = self.bought[(n * 7) % len(self.bought)]
        headers = {"Authorization": f"Bearer {key}"}
        answer = await self.http.get(f"/v1/runs/{run_id}", headers=headers)
        assert answer.is_success, answer.text


async def timed(ask: Callable[[], Awaitable[None]], due_at: float, took_s: list[float]) -> None:
    """Ask, and note how long it took from when it was due."""
    await ask()
    took_s.append(trio.current_time() - due_at)


async def load(served: Served, keys: list[str], rate: float, seconds: float) -> Clients:
    """Send requests at their times, a submit and a read in turn."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(
        base_url=served.url, limits=limits, timeout=30, trust_env=False, verify=NO_TLS
    ) as http:
        clients = Clients(keys, http)
        await clients.submit(0)
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for n in range(int(rate * (WARM_UP_S + seconds))):
                due_at = began_at + n / rate
                await trio.sleep_until(due_at)
                which, took_s = (
                    (clients.read, clients.reads_s)
                    if n % 2
                    else (clients.submit, clients.submits_s)
                )
                counts = took_s if n / rate >= WARM_UP_S else []
                nursery.start_soon(timed, partial(which, n), due_at, counts)
    return clients


def told(took_s: list[float]) -> dict[str, float]:
    """Return the figures of one kind of request."""
    ranks = statistics.quantiles(took_s, n=100)
    return {
        "requests": len(took_s),
        "p50_ms": round(ranks[49] * 1000, 1),
        "p95_ms": round(ranks[94] * 1000, 1),
        "p99_ms": round(ranks[98] * 1000, 1),
        "max_ms": round(max(took_s) * 1000, 1),
    }


def measure(*, rate: float, seconds: float, tenants: int) -> dict[str, Any]:
    """Return the figures of submits, of reads and of both."""
    with serve() as served:
        keys = [served.tenant(f"t{n}", "1000.00") for n in range(tenants)]
        clients = trio.run(partial(load, served, keys, rate, seconds))
        assert served.admin("GET", "/admin/v1/audit")["ok"], "the books do not hold"
    both = [*clients.submits_s, *clients.reads_s]
    figures = {"submits": told(clients.submits_s), "reads": told(clients.reads_s)}
    return {"rate": rate, **figures, "both": told(both)}


def main() -> int:
    """Measure and print; status 1 where the promise was not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--tenants", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = measure(rate=asked.rate, seconds=asked.seconds, tenants=asked.tenants)
    if asked.json:
        print(json.dumps(figures))
    else:
        names = ("requests", "p50_ms", "p95_ms", "p99_ms", "max_ms")
        print(f"{asked.rate:g} requests/s", *(f"{name:>9}" for name in names))
        for kind in ("submits", "reads", "both"):
            print(f"{kind:>14}", *(f"{figures[kind][name]:>9}" for name in names))
    return 0 if figures["both"]["p95_ms"] < PROMISED_MS else 1


if __name__ == "__main__":
    sys.exit(main())
