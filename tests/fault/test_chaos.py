"""A short storm; `make chaos SECONDS=600` runs a long one."""

from __future__ import annotations

import argparse
import os

from tests.fault.chaos import is_good, run

SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
SECONDS = 25.0


def test_a_short_storm_leaks_nothing() -> None:
    table = run(argparse.Namespace(seed=SEED, seconds=SECONDS, nodes=3))

    assert is_good(table), table
    assert table["asked"] == table["acknowledged"] > 100
