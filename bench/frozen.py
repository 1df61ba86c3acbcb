"""What a frozen client costs the others: p95 of submitting while one tenant's budget row is held.

    python -m bench.frozen [--tenants N] [--beside N] [--seconds S] [--json]

Quiet tenants submit one run after another, alone at first. Then a client of the database holds
another tenant's row for as long, and clients of that tenant ask for it all the time: submits,
batches, deposits. Promised is a p95 of at most twice the one alone. The audit must be clean.
"""

import argparse
import asyncio  # noqa: TID251 - this is a client, no node
import http.client
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg

from bench.node import Served, serve

HOLD = "select from budgets where tenant_id = 'frozen' for no key update"
RATIO_MAX = 2.0
WARM_UP_S = 1.0


RUN = {"pack_type": "echo", "inputs": {"message": "m"}, "max_cost_usd": "0.01"}
BATCH = 50


def post(connection: http.client.HTTPConnection, path: str, key: str, body: object) -> int:
    """Post JSON; returns the status."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if path == "/v1/runs":
        headers["Idempotency-Key"] = uuid4().hex
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def quiet(served: Served, key: str, until: float, took_s: list[float], failed: list[str]) -> None:
    """Submit one run after another, and note how long each took."""
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=60)
    while (asked_at := time.perf_counter()) < until:
        status = post(connection, "/v1/runs", key, RUN)
        took_s.append(time.perf_counter() - asked_at)
        if status != 201:
            failed.append(f"a quiet tenant got {status}")
    connection.close()


def loud(served: Served, n: int, key: str, until: float) -> None:
    """Ask for the held row in one way after another; whatever the answer, ask again."""
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=60)
    while time.perf_counter() < until:
        match n % 3:
            case 0:
                post(connection, "/v1/runs", key, RUN)
            case 1:
                runs = [RUN | {"idempotency_key": uuid4().hex} for _ in range(BATCH)]
                post(connection, "/v1/runs:batch", key, {"runs": runs})
            case _:
                body = {"amount_usd": "1.00", "reference": uuid4().hex}
                served.ask_admin("POST", "/admin/v1/tenants/frozen/deposits", body)
    connection.close()


@contextmanager
def held(served: Served) -> Iterator[None]:
    """Hold the row as a frozen client would."""
    with asyncio.Runner() as runner:
        open_it = asyncpg.connect(host=str(served.socket_dir), user="dpp_app", database="dpp")
        connection = runner.run(open_it)
        runner.run(connection.execute("begin"))
        runner.run(connection.execute(HOLD))
        yield
        runner.run(connection.execute("rollback"))
        runner.run(connection.close())


def phase(
    served: Served, keys: list[str], seconds: float, failed: list[str], louds: list[str]
) -> list[float]:
    """Let all clients work for so long; returns what the quiet ones waited."""
    took_s: list[float] = []
    until = time.perf_counter() + seconds
    clients = [
        threading.Thread(target=quiet, args=(served, key, until, took_s, failed)) for key in keys
    ]
    clients += [
        threading.Thread(target=loud, args=(served, n, key, until)) for n, key in enumerate(louds)
    ]
    for client in clients:
        client.start()
    for client in clients[: len(keys)]:  # the loud ones still wait for the row
        client.join()
    return took_s


def measure(served: Served, *, tenants: int, beside: int, seconds: float) -> dict[str, Any]:
    """Measure alone, then beside a frozen client; returns the figures."""
    keys = [served.tenant(f"quiet-{n}", "100000.00") for n in range(tenants)]
    frozen = served.tenant("frozen", "100000.00")
    failed: list[str] = []
    phase(served, keys, WARM_UP_S, failed, [])
    alone = phase(served, keys, seconds, failed, [])
    with held(served):
        while_held = phase(served, keys, seconds, failed, [frozen] * beside)
    p95_ms = [statistics.quantiles(some, n=20)[-1] * 1000 for some in (alone, while_held)]
    return {
        "tenants": tenants,
        "beside": beside,
        "requests_alone": len(alone),
        "requests_while_held": len(while_held),
        "p95_ms_alone": round(p95_ms[0], 1),
        "p95_ms_while_held": round(p95_ms[1], 1),
        "ratio": round(p95_ms[1] / p95_ms[0], 2),
        "failed": failed[:5],
        "audit_ok": served.admin("GET", "/admin/v1/audit", None)["ok"],
    }


def main() -> int:
    """Run the benchmark and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tenants", type=int, default=8)
    parser.add_argument("--beside", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=4.0)  # the server ends a holder after 5
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with serve() as served:
        figures = measure(served, tenants=given.tenants, beside=given.beside, seconds=given.seconds)
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>20}  {value}")
    good = figures["audit_ok"] and not figures["failed"] and figures["ratio"] <= RATIO_MAX
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
