"""Short turns with the nodes behind a balancer; `make kills` and `make restarts` take long ones.

Those judge which share of the requests succeeded; beside a whole suite nodes may lose their leases.
"""

from __future__ import annotations

import os

import pytest

from tests.fault.rollout import leaks, parse, run
from tests.redis_server import needs_redis

SEED = os.environ.get("DPP_TEST_SEED", "20261129")
FEW = ["--clients", "6", "--seed", SEED]  # of a suite that runs beside it


@needs_redis
@pytest.mark.timeout(300)  # no test fails because the machine was busy
def test_while_nodes_are_killed_and_helpers_are_broken_nothing_leaks() -> None:
    table = run(parse(["kills", "--seconds", "15", "--every", "7", "--broken", "s3,redis", *FEW]))

    assert leaks(table) == []
    assert table["kills"] in {1, 2}  # a start may take longer than it is to the second turn
    assert table["s3: times broken"] + table["redis: times broken"] > 0
    assert table["requests"] > table["failed"]


@pytest.mark.timeout(300)
def test_while_nodes_are_restarted_in_turn_nothing_leaks() -> None:
    table = run(parse(["restarts", "--rounds", "1", *FEW]))

    assert leaks(table) == []
    assert table["restarts"] == 3
    assert table["requests"] > table["failed"]
