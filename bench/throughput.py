"""Durable paid runs a second: submit `echo` runs in batches over HTTP until all are COMPLETED.

    python -m bench.throughput [--runs N] [--batch N] [--tenants N] [--connections N] [--json]

The clock runs from the first byte sent until no tenant holds money any more; then the audit must be
clean. PostgreSQL runs with its defaults for durability. Node, PostgreSQL and this client share the
machine.
"""

import argparse
import http.client
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.node import Served, serve

COST = "0.01"  # each run reserves this and spends nothing


def body(first: int, count: int) -> bytes:
    """Return the body of one batch."""
    runs = [
        {
            "pack_type": "echo",
            "inputs": {"message": f"run {n}"},
            "max_cost_usd": COST,
            "idempotency_key": f"bench-{n}",
        }
        for n in range(first, first + count)
    ]
    return json.dumps({"runs": runs}).encode()


def post_all(served: Served, key: str, bodies: list[bytes], failed: list[str]) -> None:
    """Send these batches one after another on one connection."""
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=120)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for one in bodies:
        connection.request("POST", "/v1/runs:batch", one, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200 or content.count(b'"status":201') == 0:
            failed.append(f"{answer.status} {content[:300]!r}")
    connection.close()


def held(served: Served, keys: list[str]) -> int:
    """Return how many tenants still hold money."""
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=30)
    count = 0
    for key in keys:
        connection.request("GET", "/v1/budget", headers={"Authorization": f"Bearer {key}"})
        count += json.loads(connection.getresponse().read())["held_usd"] != "0.00"
    connection.close()
    return count


def resident_kib(pid: int) -> int:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def measure(
    served: Served, *, runs: int, batch: int, tenants: int, connections: int
) -> dict[str, Any]:
    """Submit and wait; returns the figures."""
    keys = [served.tenant(f"bench-{n}", "100000.00") for n in range(tenants)]
    bodies = [body(first, min(batch, runs - first)) for first in range(0, runs, batch)]
    failed: list[str] = []
    idle_kib = resident_kib(served.pid)
    clients = [
        threading.Thread(
            target=post_all,
            args=(served, keys[n % tenants], bodies[n::connections], failed),
        )
        for n in range(connections)
    ]
    began_at = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    submitted_s = time.perf_counter() - began_at
    while held(served, keys):
        time.sleep(0.05)  # noqa: TID251 - a thread of this client, no loop
    completed_s = time.perf_counter() - began_at
    audit = served.admin("GET", "/admin/v1/audit", None)
    return {
        "runs": runs,
        "batch": batch,
        "tenants": tenants,
        "connections": connections,
        "submit_per_s": round(runs / submitted_s),
        "completed_per_s": round(runs / completed_s),
        "seconds": round(completed_s, 2),
        "ready_s": round(served.ready_s, 2),
        "idle_mib": round(idle_kib / 1024, 1),
        "after_mib": round(resident_kib(served.pid) / 1024, 1),
        "failed": failed[:5],
        "audit_ok": audit["ok"],
    }


def main() -> int:
    """Run the benchmark and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--tenants", type=int, default=4)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with serve() as served:
        figures = measure(
            served,
            runs=given.runs,
            batch=given.batch,
            tenants=given.tenants,
            connections=given.connections,
        )
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>16}  {value}")
    return 0 if figures["audit_ok"] and not figures["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
