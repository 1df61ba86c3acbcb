"""Failpoints: the registry is what the code has, and a place does what it was armed with, once."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpp import failpoints
from dpp.failpoints import ACTIONS, KILLED, MOMENTS, POINTS, Hit, arm, hit

CODE = Path(failpoints.__file__).parent
SOME = "settle.before_commit"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm([])


def calls(name: str) -> Iterator[ast.Call]:
    """Yield every call of a function of this name in the code."""
    for path in CODE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                if name in {getattr(called, "attr", None), getattr(called, "id", None)}:
                    yield node


def test_the_registry_is_what_the_code_has() -> None:
    places = {
        call.args[0].value
        for call in calls("hit")
        if call.args and isinstance(call.args[0], ast.Constant)
    }
    named = {
        call.args[1].value
        for call in calls("transaction")
        if len(call.args) > 1 and isinstance(call.args[1], ast.Constant)
    }

    assert places | {f"{name}.{moment}" for name in named for moment in MOMENTS} == POINTS


def test_nothing_happens_where_nothing_is_armed() -> None:
    for point in POINTS:
        hit(point)


def test_it_fires_once_at_the_nth_time() -> None:
    arm([f"{SOME}:raise@3", "settle.begin:raise"])

    hit(SOME)
    hit(SOME)
    with pytest.raises(Hit, match=SOME):
        hit(SOME)
    hit(SOME)
    with pytest.raises(Hit):
        hit("settle.begin")


def test_drop_cuts_the_connection_that_is_worked_on() -> None:
    dropped: list[int] = []
    arm([f"{SOME}:drop"])

    hit(SOME, lambda: dropped.append(1))

    assert dropped == [1]


@pytest.mark.parametrize(("action", "status"), [("exit", KILLED), ("stop", None)])
def test_it_ends_or_stops_the_process(action: str, status: int | None) -> None:
    code = f"from dpp.failpoints import arm, hit; arm(['{SOME}:{action}']); hit('{SOME}')"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        if status is None:
            _, how = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(how)
            assert os.WSTOPSIG(how) == signal.SIGSTOP
        else:
            assert process.wait(30) == status
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("nothing.here:raise", "there is no failpoint 'nothing.here'"),
        (SOME, "the action must be one of " + ", ".join(ACTIONS)),
        (f"{SOME}:explode", "the action must be one of"),
        (f"{SOME}:raise@0", "how many times"),
        (f"{SOME}:raise@x", "how many times"),
    ],
)
def test_a_wrong_spec_is_told_and_arms_nothing(spec: str, said: str) -> None:
    arm([f"{SOME}:raise"])

    with pytest.raises(ValueError, match=said):
        arm(["settle.begin:raise", spec])

    hit("settle.begin")
    with pytest.raises(Hit):
        hit(SOME)
