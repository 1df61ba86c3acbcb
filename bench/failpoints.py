"""What failpoints cost where none is armed: their time in that of a run, alone and in batches.

    python -m bench.failpoints [--runs N] [--alone N] [--json]

A call is timed by itself, as the code makes it: within a transaction the name is put together
first. A node whose failpoints are counted tells how many a run passes from its submit to COMPLETED.
The time of a run comes from nodes that count nothing: at the throughput of `bench.throughput`, and
one run after another. Promised is that they take less than a hundredth of either.
"""

import argparse
import http.client
import json
import sys
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from bench import throughput
from bench.node import Served, serve
from dpp import failpoints
from dpp.store.transactions import reach

SHARE_MAX = 0.01
CALLS, REPEATS = 200_000, 7  # a repeat takes 0.1 s; the best of them was disturbed least
# Those on the way of a run. Renewals and scans go on beside, however many runs there are.
ON_THE_WAY = ("submit.", "claim.", "settle.", "execute.", "deliver.")
RUN = {"pack_type": "echo", "inputs": {"message": "m"}, "max_cost_usd": throughput.COST}
# A node imports this before anything else. Each place is reached by one thread only.
COUNTING = """
import atexit, collections, json, pathlib
from dpp import failpoints
counts = collections.Counter()
hit = failpoints.hit
def counted(name, drop=None):
    counts[name] += 1
    hit(name, drop)
failpoints.hit = counted
@atexit.register
def write():
    pathlib.Path(__file__).with_name("counts").write_text(json.dumps(counts))
"""


class Connection:
    """What `reach` takes of a connection, where nothing is armed."""

    def terminate(self) -> None:
        """Be cut: never called here."""


def call_ns(call: Callable[[], object]) -> float:
    """Return what one call takes, without the loop around it, in nanoseconds."""
    timed, empty = (
        min(timeit.repeat(one, number=CALLS, repeat=REPEATS)) for one in (call, lambda: None)
    )
    return (timed - empty) / CALLS * 1e9


def alone(served: Served, runs: int) -> float:
    """Submit one run after another and wait for each; returns the seconds that one takes."""
    key = served.tenant("alone", "1000.00")
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc, timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(method: str, path: str, **more: str) -> Any:
        body = json.dumps(RUN) if method == "POST" else None
        connection.request(method, path, body, headers | more)
        return json.loads(connection.getresponse().read())

    def one() -> None:
        run_id = ask("POST", "/v1/runs", **{"Idempotency-Key": uuid4().hex})["run_id"]
        status = ask("GET", f"/v1/runs/{run_id}?wait=30")["status"]
        assert status == "COMPLETED", status

    seconds: float = timeit.timeit(one, number=runs)
    connection.close()
    return seconds / runs


def batches(served: Served, runs: int) -> float:
    """Do what `bench.throughput` does; returns the seconds that one run takes."""
    figures = throughput.measure(served, runs=runs, batch=500, tenants=4, connections=4)
    assert figures["audit_ok"], figures
    assert not figures["failed"], figures
    seconds: float = figures["seconds"]
    return seconds / runs


def passed(work: Callable[[Served, int], float], runs: int) -> float:
    """Return how many failpoints one run passes, on a node that counts them."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "sitecustomize.py").write_text(COUNTING)
        with serve(env={"PYTHONPATH": directory}) as served:
            work(served, runs)
        counts: dict[str, int] = json.loads((Path(directory) / "counts").read_text())
    return sum(n for name, n in counts.items() if name.startswith(ON_THE_WAY)) / runs


def taken(work: Callable[[Served, int], float], runs: int) -> float:
    """Return the seconds that one run takes, on a node that counts nothing."""
    with serve() as served:
        return work(served, runs)


def measure(*, runs: int, runs_alone: int) -> dict[str, Any]:
    """Time the calls, count them and time the runs; returns the figures."""
    failpoints.arm(())
    connection = Connection()
    hit_ns = call_ns(lambda: failpoints.hit("execute.before_pack"))
    # Only the connection's `terminate` is looked at.
    reach_ns = call_ns(lambda: reach(connection, "settle", "begin"))  # type: ignore[arg-type]
    figures = {"hit_ns": round(hit_ns, 1), "in_a_transaction_ns": round(reach_ns, 1)}
    for name, work, count in (("alone", alone, runs_alone), ("in_batches", batches, runs)):
        points, run_s = passed(work, count), taken(work, count)
        share = points * max(hit_ns, reach_ns) / 1e9 / run_s
        figures |= {
            f"runs_{name}": count,
            f"points_{name}": round(points, 2),
            f"run_us_{name}": round(run_s * 1e6, 1),
            f"percent_{name}": round(100 * share, 4),
        }
    return figures


def main() -> int:
    """Run the benchmark and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20_000, help="in batches")
    parser.add_argument("--alone", type=int, default=200, help="one after another")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    figures = measure(runs=given.runs, runs_alone=given.alone)
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>20}  {value}")
    most = max(figures["percent_alone"], figures["percent_in_batches"])
    return 0 if most <= 100 * SHARE_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
