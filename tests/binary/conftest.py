"""The binary of these tests. `make test` does not collect them: `make test-binary` runs them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.binary.bare import FOLDER, Bare, Node

collect_ignore_glob = [] if FOLDER.is_dir() else ["test_*.py"]


@pytest.fixture(scope="session")
def bare() -> Iterator[Bare]:
    """Give a place without Python."""
    root = Path(tempfile.mkdtemp(prefix="dpp-bare-"))
    root.chmod(0o755)  # pytest's own are closed to PostgreSQL's user
    try:
        yield Bare.make(root)
    finally:
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def node(bare: Bare) -> Iterator[Node]:
    """Give a node that runs, with a tenant `acme`."""
    node = Node(bare, bare.root / "data")
    try:
        node.start()
        node.dpp("tenant", "create", "acme", "--plan", "basic", "--deposit", "10.00")
        yield node
    finally:
        node.close()
