"""How this program is started again: by a shell, and by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dpp import program


@pytest.mark.parametrize(
    ("started_as", "shown"),
    [
        ("/opt/dpp/bin/dpp", "/opt/dpp/bin/dpp"),
        (".venv/bin/dpp", f"{Path.cwd()}/.venv/bin/dpp"),
        ("/opt/dpp/__main__.py", f"{sys.executable} -m dpp"),
    ],
)
def test_a_program_is_shown_as_it_can_be_started_again(
    monkeypatch: pytest.MonkeyPatch, started_as: str, shown: str
) -> None:
    monkeypatch.setattr(sys, "argv", [started_as, "demo"])

    assert program.typed() == shown
    assert program.command() == (sys.executable, "-m", "dpp")
    assert program.binary() is None


def test_the_binary_is_itself_the_program_however_it_was_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)  # as its bootloader does
    monkeypatch.setattr(sys, "executable", "/opt/my dpp/dpp")
    monkeypatch.setattr(sys, "argv", ["dpp", "demo"])  # found on PATH

    assert program.typed() == "'/opt/my dpp/dpp'"
    assert program.command() == ("/opt/my dpp/dpp",)
