"""Commands called in this process, with an environment in which nothing is set."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina
from attrs import frozen

from dpp.cli.main import call


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
def _retries_do_not_wait() -> Iterator[None]:
    stamina.set_testing(True, attempts=8, cap=True)
    yield
    stamina.set_testing(False)
    stamina.instrumentation.set_on_retry_hooks(None)


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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
