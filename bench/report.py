"""What a claim costs while a report holds a snapshot, and how soon that is over.

    python -m bench.report [--seconds S] [--rate N] [--json]

Runs are bought at a steady rate and executed; then a session reads in one snapshot for so long (ten
minutes), so that no row that dies meanwhile can go; then it ends. Promised: the 99th percentile of
a claim is at most five times what it was before, `dpp_postgres_xmin_held_seconds` rises past what
DPP_Xmin_Held waits for, and a minute after the end a claim costs what it did. Percentiles are of
the node's own histogram, straight within a bucket. The audit must be clean.
"""

import argparse
import asyncio  # noqa: TID251 - this is a client, no node
import http.client
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
from attrs import define, field

from bench.node import Served, serve
from dpp import metrics

RATIO_MAX, SETTLES_S, ALARM_S = 5.0, 60.0, 300.0
LOOK_S = 60.0  # over which a percentile is taken
WARM_UP_S = 10.0
EVERY_S = 0.1  # between two batches
TENANTS = 10
BUCKET = re.compile(r'dpp_commit_seconds_bucket\{le="([^"]+)",verb="claim_runs"\} (\S+)')


@define(eq=False)
class Load:
    """A client that buys so many runs a second."""

    served: Served
    keys: list[str]
    rate: float
    bought: int = 0
    over: threading.Event = field(factory=threading.Event)

    def run(self) -> None:
        """Buy until it is over, a batch each `EVERY_S`."""
        connection = http.client.HTTPConnection(urlsplit(self.served.url).netloc, timeout=60)
        next_at = time.perf_counter()
        while not self.over.is_set():
            runs = [one_run() for _ in range(round(self.rate * EVERY_S))]
            key = self.keys[self.bought % len(self.keys)]
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/runs:batch", json.dumps({"runs": runs}), headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == http.client.OK, answer.status
            self.bought += len(runs)
            next_at += EVERY_S
            self.over.wait(max(0.0, next_at - time.perf_counter()))


def one_run() -> dict[str, Any]:
    """Return a run to buy."""
    inputs = {"message": "m"}
    common = {"pack_type": "echo", "inputs": inputs, "max_cost_usd": "0.01"}
    return {**common, "idempotency_key": uuid4().hex}


@contextmanager
def report(served: Served) -> Iterator[None]:
    """Read in one snapshot, as a superuser, whom no limit of ours ends."""
    with asyncio.Runner() as runner:
        open_it = asyncpg.connect(host=str(served.socket_dir), user="postgres", database="dpp")
        connection = runner.run(open_it)
        runner.run(connection.execute("begin isolation level repeatable read"))
        runner.run(connection.execute("select count(*) from dpp.live_runs"))
        yield
        runner.run(connection.execute("rollback"))
        runner.run(connection.close())


def buckets(served: Served) -> list[tuple[float, float]]:
    """Return upper bounds and counts of claims, as the node has them now."""
    text = served.ask_admin("GET", "/metrics").text
    return [(float(bound), float(count)) for bound, count in BUCKET.findall(text)]


def p99_ms(before: list[tuple[float, float]], after: list[tuple[float, float]]) -> float:
    """Return the percentile of what was claimed between."""
    counts = [
        (bound, count - earlier[1]) for (bound, count), earlier in zip(after, before, strict=True)
    ]
    wanted = 0.99 * counts[-1][1]
    for (low, under), (high, upto) in pairwise([(0.0, 0.0), *counts]):
        if upto >= wanted:
            width = min(high, metrics.COMMIT_S[-1]) - low
            return round(1000 * (low + width * (wanted - under) / (upto - under)), 2)
    raise AssertionError("nothing was claimed")


def look(served: Served, load: Load) -> float:
    """Return the percentile over some time from now."""
    before = buckets(served)
    load.over.wait(LOOK_S)
    return p99_ms(before, buckets(served))


def measure(served: Served, *, seconds: float, rate: float) -> dict[str, Any]:
    """Measure before, at the end of the report, and after; returns the figures."""
    keys = [served.tenant(f"t{n}", "1000000.00") for n in range(TENANTS)]
    load = Load(served, keys, rate)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        load.over.wait(WARM_UP_S)
        alone = look(served, load)
        with report(served):
            load.over.wait(max(0.0, seconds - LOOK_S))
            while_held = look(served, load)
            held_s = served.counted("dpp_postgres_xmin_held_seconds")
        load.over.wait(SETTLES_S)
        after = look(served, load)
    finally:
        load.over.set()
        thread.join()
    assert served.admin("GET", "/admin/v1/audit")["ok"], "the books do not hold"
    return {
        "rate": rate,
        "report_s": seconds,
        "bought": load.bought,
        "claim_p99_alone_ms": alone,
        "claim_p99_held_ms": while_held,
        "claim_p99_after_ms": after,
        "ratio": round(while_held / alone, 2),
        "held_s": held_s,
    }


def main() -> int:
    """Measure and print; status 1 where a promise was not kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with serve() as served:
        figures = measure(served, seconds=asked.seconds, rate=asked.rate)
    if asked.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:>20}  {figure}")
    alarmed = figures["held_s"] > min(ALARM_S, asked.seconds / 2)
    kept = figures["claim_p99_after_ms"] <= 2 * figures["claim_p99_alone_ms"]
    return 0 if figures["ratio"] <= RATIO_MAX and alarmed and kept else 1


if __name__ == "__main__":
    sys.exit(main())
