"""The machine of these tests. `make test` does not collect them: `make test-systemd` runs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import Machine, machine

TREE = os.environ.get("TEST_SYSTEMD_TREE", "")
collect_ignore_glob = [] if TREE else ["test_*.py"]


@pytest.fixture(scope="session")
def booted() -> Iterator[Machine]:
    """Give a machine with DPP and its units on it; nothing of it is started."""
    with machine(Path(TREE)) as made:
        yield made


@pytest.fixture
def vm(booted: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Give it; afterwards no unit of DPP runs, and drop-ins and configuration are gone."""
    failed = request.session.testsfailed
    yield booted
    if request.session.testsfailed > failed:
        sys.stdout.write(booted.journal())
    booted.clear()
