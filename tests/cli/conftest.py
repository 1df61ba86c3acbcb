"""Commands called in this process, with an environment in which nothing is set."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from dpp.cli import reach
from dpp.cli.main import call
from tests.cli import peers


@frozen
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Return the one JSON document on stdout."""
        return json.loads(self.out)


Dpp = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("DPP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DPP_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(autouse=True)
def _retries_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "PAUSE_MAX_S", 0.0)


@pytest.fixture
def dpp(capfd: pytest.CaptureFixture[str]) -> Dpp:
    """Call the command."""

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        status = call(arguments)
        printed = capfd.readouterr()
        return Ended(status, printed.out, printed.err)

    return run


@pytest.fixture
def closed_url() -> str:
    """Return a URL where nothing listens."""
    return peers.closed_url()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a data directory without a node, where PostgreSQL's user can reach it."""
    path = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    path.chmod(0o711)
    monkeypatch.setenv("DPP_DATA_DIR", str(path / "dpp"))
    yield path / "dpp"
    shutil.rmtree(path)
