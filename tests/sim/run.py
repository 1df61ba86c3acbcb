"""Many seeds of the simulation: progress, one table, and what repeats a seed that failed.

    python -m tests.sim.run [--seeds N] [--seed FIRST] [--jobs J] [--json] [--log]

The seeds are printed first. Each that breaks a promise is shown with its faults; then the status is
1, as where a mark was never reached. `--log` lets the nodes say what they do: it is for one seed.
"""

# ruff: noqa: T201 - a command: it prints its table
from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from multiprocessing import get_context
from typing import Any

from tests.sim import chance, marks
from tests.sim.simulation import Outcome, simulate

PROGRESS = 50  # seeds between two lines


def main() -> int:
    """Run what the command line asks for; texts must hash alike, so perhaps in another process."""
    if not chance.repeatable():
        command = [sys.executable, "-m", "tests.sim.run", *sys.argv[1:]]
        os.execve(sys.executable, command, dict(chance.fixed()))  # noqa: S606 - it is this command
    asked = parser().parse_args()
    table = run(asked)
    if asked.json:
        print(json.dumps(table, indent=1, default=str))
    else:
        show(table)
    return 1 if table["failed"] or table["missing"] else 0


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.run", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--log", action="store_true")
    return parser


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the seeds; return what is shown of them."""
    print(f"seeds {asked.seed} to {asked.seed + asked.seeds - 1}", file=sys.stderr)
    began_at = time.perf_counter()
    counts: Counter[str] = Counter()
    digests: dict[int, str] = {}
    failed: list[Mapping[str, Any]] = []
    for outcome in outcomes(asked):
        counts.update(outcome.counts)
        digests[outcome.seed] = outcome.digest
        if outcome.violations:
            failed.append(told(outcome))
            report(outcome)
        if len(digests) % PROGRESS == 0:
            print(f"{len(digests)} seeds, {len(failed)} failed", file=sys.stderr)
    seconds = time.perf_counter() - began_at
    return {
        "first": asked.seed,
        "seeds": asked.seeds,
        "seconds": round(seconds, 1),
        "seeds_per_s": round(asked.seeds / seconds, 1),
        "counts": dict(sorted(counts.items())),
        "missing": marks.missing(counts, asked.seeds),
        "failed": failed,
        "digests": digests,
    }


def outcomes(asked: argparse.Namespace) -> Iterator[Outcome]:
    """Yield what came of each seed, in order."""
    seeds = range(asked.seed, asked.seed + asked.seeds)
    one = partial(simulate, log=asked.log)
    if asked.jobs == 1 or asked.seeds == 1:
        yield from map(one, seeds)
        return
    with get_context("spawn").Pool(asked.jobs) as pool:
        yield from pool.imap(one, seeds, chunksize=5)


def told(outcome: Outcome) -> Mapping[str, Any]:
    """Return what is kept of a seed that failed."""
    return {
        "seed": outcome.seed,
        "scenario": outcome.scenario,
        "violations": list(outcome.violations),
        "faults": list(outcome.faults),
    }


def report(outcome: Outcome) -> None:
    """Say what a seed broke, and after which faults."""
    print(f"seed {outcome.seed}: {outcome.scenario}", file=sys.stderr)
    for line in (*outcome.faults, *outcome.violations):
        print(f"  {line}", file=sys.stderr)


def show(table: Mapping[str, Any]) -> None:
    """Print the table."""
    for name, count in table["counts"].items():
        print(f"{count:10d}  {name}")
    for name in table["missing"]:
        print(f"     never  {name}")
    print(f"{table['seeds']} seeds from {table['first']} in {table['seconds']} s,", end=" ")
    print(f"{table['seeds_per_s']} a second; failed: {len(table['failed'])}")


if __name__ == "__main__":
    sys.exit(main())
