"""Seeds of the simulation; `python -m tests.sim.run --seeds 2000` runs many."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sim import chance

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("DPP_TEST_SEED", "1"))
SEEDS = int(os.environ.get("DPP_SIM_SEEDS", "40"))  # a quarter of a minute beside other tests
LIMIT_S = 90 + SEEDS  # a seed takes a fifth of a second where nobody else wants the machine


def simulated(first: int, seeds: int, *more: str) -> dict[str, Any]:
    """Run seeds in a process of their own, in which texts hash alike; it says which on stderr."""
    command = [sys.executable, "-m", "tests.sim.run", "--json"]
    ran = subprocess.run(
        [*command, "--seed", str(first), "--seeds", str(seeds), *more],
        check=False,
        cwd=ROOT,
        env=chance.fixed(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT_S,
    )
    table: dict[str, Any] = json.loads(ran.stdout)
    assert ran.returncode == (1 if table["failed"] or table["missing"] else 0)
    return table


@pytest.mark.timeout(LIMIT_S + 10)
def test_no_seed_breaks_a_promise_and_each_mark_is_reached() -> None:
    table = simulated(SEED, SEEDS)

    assert table["failed"] == []
    assert table["missing"] == []


def test_a_seed_has_one_trace_whatever_ran_before_it_in_whichever_process() -> None:
    alone = simulated(SEED + 4, 6, "--jobs", "1")["digests"]
    again = simulated(SEED + 4, 6, "--jobs", "1")["digests"]
    after_others = simulated(SEED, 10, "--jobs", "1")["digests"]

    assert len(set(alone.values())) == 6
    assert alone == again
    assert alone == {seed: after_others[seed] for seed in alone}
