"""Lines that say the same again and again."""

from __future__ import annotations

from typing import Any

import pytest
from structlog import DropEvent

from dpp import repeats
from dpp.repeats import EVERY_S, KEPT_MAX, Repeats


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(repeats, "time", clock)
    return clock


def passed(repeats: Repeats, actor: str, event: str = "store unavailable", **more: Any) -> Any:
    """Return the line, or None where it is left out."""
    try:
        return dict(repeats(None, "warning", {"event": event, "actor": actor, **more}))
    except DropEvent:
        return None


def test_an_outage_is_told_at_once_and_then_every_ten_seconds(clock: Clock) -> None:
    lines = Repeats()
    told = []
    for second in range(25):
        clock.now = 1000.0 + second
        told.append(passed(lines, "reaper"))

    assert [n for n, line in enumerate(told) if line is not None] == [0, EVERY_S, 2 * EVERY_S]
    assert told[0] == {"event": "store unavailable", "actor": "reaper"}
    assert told[10] is not None
    assert told[10]["repeated"] == 9


def test_actors_are_told_apart(clock: Clock) -> None:
    lines = Repeats()
    assert passed(lines, "reaper")
    assert passed(lines, "follower")
    assert passed(lines, "reaper") is None


def test_another_reason_is_told_at_once(clock: Clock) -> None:
    lines = Repeats()
    assert passed(lines, "tenure", detail="no answer")
    assert passed(lines, "tenure", detail="lease 7 lapsed")
    assert passed(lines, "tenure", detail="no answer") is None


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    lines = Repeats()
    for n in range(3 * KEPT_MAX):
        assert passed(lines, "tenure", detail=f"lease {n}")
    assert len(lines._last_at) <= KEPT_MAX


def test_everything_else_is_told_each_time(clock: Clock) -> None:
    lines = Repeats()
    assert all(passed(lines, "settler", "ending refused") for _ in range(3))
