"""What the log says of what was done and what to do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import dpp
from dpp.advice import ADVICE, advise

LEVELS = {"warning", "error", "critical", "exception"}
ROOT = Path(dpp.__file__).parent


def said() -> set[str]:
    """Return what the code logs at a warning or worse, where the words stand there."""
    calls = [
        node
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
    ]
    words = [call.args[0] for call in calls if call.func.attr in LEVELS]  # type: ignore[attr-defined]
    return {word.value for word in words if isinstance(word, ast.Constant)}


def test_every_line_of_trouble_says_what_was_done_and_what_to_do() -> None:
    assert said() == set(ADVICE)


@pytest.mark.parametrize("level", ["warning", "error", "critical"])
def test_it_stands_on_the_line(level: str) -> None:
    line = advise(None, level, {"event": "lease lost", "level": level})
    assert line["did"] == ADVICE["lease lost"].did
    assert line["remedy"] == ADVICE["lease lost"].remedy


@pytest.mark.parametrize(("event", "level"), [("lease lost", "info"), ("unknown", "error")])
def test_other_lines_are_left_as_they_are(event: str, level: str) -> None:
    line = {"event": event, "level": level}
    assert advise(None, level, {**line}) == line
