"""What a noisy tenant costs the others: p95 of their runs while it holds 90 % of the queue.

    python -m bench.noisy [--tenants N] [--places N] [--sleep S] [--seconds S] [--json]

Quiet tenants each submit a few short runs together, wait until all have ended, and do it again: at
first alone, then beside one tenant with nine times as many runs waiting as all of them, each of
which keeps its place for a while. Times are from a run's submission to its end, by the database's
stamps. Promised: the p95 moves by no more than the noisy tenant's own run takes, since at most that
long nobody's place gets free. The audit must be clean.
"""

import argparse
import asyncio  # noqa: TID251 - it looks at PostgreSQL directly
import http.client
import json
import statistics
import sys
import threading
import time
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from bench.node import Served, serve

RUNS = 5  # of a quiet tenant that wait together
SHARE = 0.9  # of the queue, that is the noisy tenant's
BATCH = 500
WARM_UP_S = 2.0
WAIT_S = 60  # for the end of a run; it is asked again
WAITING = "select count(*) from dpp.live_runs where tenant_id = 'noisy' and lease_id is null"
ENDED = {"COMPLETED", "FAILED", "CANCELED", "EXPIRED"}


def batch(count: int, sleep_s: float) -> dict[str, Any]:
    """Return a batch of runs that keep their places so long."""
    inputs = {"sleep_s": sleep_s} if sleep_s else {}
    run = {"pack_type": "echo", "inputs": inputs, "max_cost_usd": "0.01"}
    return {"runs": [run | {"idempotency_key": uuid4().hex} for _ in range(count)]}


class Tenant:
    """One tenant's connection."""

    def __init__(self, served: Served, key: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=90)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask for what must be granted; returns the document."""
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, self._headers)
        answer = self._connection.getresponse()
        said = answer.read()
        assert answer.status == http.client.OK, said
        return json.loads(said)

    def submit(self, count: int, sleep_s: float = 0.0) -> list[str]:
        """Submit runs, all of them admitted; returns their ids."""
        items = self.ask("POST", "/v1/runs:batch", batch(count, sleep_s))["items"]
        assert {item["status"] for item in items} == {http.client.CREATED}, items
        return [item["run"]["run_id"] for item in items]

    def took_s(self, run_id: str) -> float:
        """Wait for the end of a run; returns how long it took from its submission."""
        while True:
            run = self.ask("GET", f"/v1/runs/{run_id}?wait={WAIT_S}")
            if run["status"] in ENDED:
                assert run["status"] == "COMPLETED", run
                began, ended = (
                    datetime.fromisoformat(run[name]) for name in ("created_at", "finished_at")
                )
                return (ended - began).total_seconds()


def quiet(tenant: Tenant, until: float, took_s: list[float]) -> None:
    """Submit a few runs, wait for all, and again."""
    while time.perf_counter() < until:
        took_s += [tenant.took_s(run_id) for run_id in tenant.submit(RUNS)]


def phase(tenants: list[Tenant], seconds: float) -> list[float]:
    """Let all quiet tenants work for so long; returns how long their runs took."""
    took_s: list[list[float]] = [[] for _ in tenants]
    until = time.perf_counter() + seconds
    clients = [
        threading.Thread(target=quiet, args=(tenant, until, mine))
        for tenant, mine in zip(tenants, took_s, strict=True)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return [one for mine in took_s for one in mine]


def waiting(served: Served) -> int:
    """Return how many runs of the noisy tenant wait."""

    async def ask() -> int:
        server = await asyncpg.connect(host=str(served.socket_dir), user="dpp_app", database="dpp")
        count = int(await server.fetchval(WAITING))
        await server.close()
        return count

    return asyncio.run(ask())


def measure(served: Served, given: argparse.Namespace) -> dict[str, Any]:
    """Measure alone, then beside the noisy tenant; returns the figures."""
    names = [f"quiet-{n}" for n in range(given.tenants)]
    tenants = [Tenant(served, served.tenant(name, "100000.00")) for name in names]
    noisy = Tenant(served, served.tenant("noisy", "100000.00"))
    phase(tenants, WARM_UP_S)
    alone = phase(tenants, given.seconds)
    least = round(given.tenants * RUNS * SHARE / (1 - SHARE))
    worked_off = round(given.places * (given.seconds + WARM_UP_S) / given.sleep)
    for first in range(0, least + worked_off, BATCH):
        noisy.submit(min(BATCH, least + worked_off - first), given.sleep)
    beside = phase(tenants, given.seconds)
    left = waiting(served)
    p95_ms = [statistics.quantiles(some, n=20)[-1] * 1000 for some in (alone, beside)]
    return {
        "quiet_tenants": given.tenants,
        "places": given.places,
        "noisy_run_ms": round(given.sleep * 1000),
        "noisy_runs_waiting": [least + worked_off, left],  # before and after
        "noisy_share_of_queue_at_least": round(left / (left + given.tenants * RUNS), 3),
        "quiet_runs_alone": len(alone),
        "quiet_runs_beside": len(beside),
        "p95_ms_alone": round(p95_ms[0], 1),
        "p95_ms_beside": round(p95_ms[1], 1),
        "moved_by_ms": round(p95_ms[1] - p95_ms[0], 1),
        "audit_ok": served.admin("GET", "/admin/v1/audit", None)["ok"],
    }


def main() -> int:
    """Run the benchmark and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tenants", type=int, default=9)
    parser.add_argument("--places", type=int, default=8)  # few: with many nobody waits for one
    parser.add_argument("--sleep", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with serve(env={"DPP_RUNS__CONCURRENCY": str(given.places)}) as served:
        figures = measure(served, given)
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>28}  {value}")
    kept = figures["moved_by_ms"] <= figures["noisy_run_ms"]
    held = figures["noisy_share_of_queue_at_least"] >= SHARE
    return 0 if figures["audit_ok"] and kept and held else 1


if __name__ == "__main__":
    sys.exit(main())
