"""A short storm; `make chaos SECONDS=600` runs a long one."""

from __future__ import annotations

import argparse
import os

import pytest

from dpp.store.poolers import Pooler
from tests.conftest import POOLER
from tests.fault.chaos import default_mode, run, troubles

SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
SECONDS = 20.0  # each kind of fault comes once in about that time


@pytest.mark.timeout(300)  # a minute; no test fails because the machine was busy
def test_a_short_storm_leaks_nothing() -> None:
    # Where everything else of a run goes through transactions, this one tries sessions.
    mode = default_mode() if POOLER is Pooler.NONE else "session"
    given = {"seed": SEED, "seconds": SECONDS, "nodes": 3, "pooler": mode, "results": "s3"}
    table = run(argparse.Namespace(**given))

    assert troubles(table) == []
    assert table["acknowledged"] > 100
