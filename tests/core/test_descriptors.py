"""File descriptors: a node raises its limit as far as it may, and says where that is too little."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from dpp import descriptors
from dpp.descriptors import OWN, make_room

if TYPE_CHECKING:
    from collections.abc import Callable

FREE = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], list[tuple[int, int]]]:
    """Return what sets the limits that are found, and lists those that are asked for."""

    def found(soft: int, hard: int) -> list[tuple[int, int]]:
        asked: list[tuple[int, int]] = []
        monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _what: (soft, hard))
        monkeypatch.setattr(
            descriptors.resource, "setrlimit", lambda _what, limit: asked.append(limit)
        )
        return asked

    return found


@pytest.mark.parametrize(
    ("soft", "hard", "asked", "lacking"),
    [
        (1024, 524_288, [(2000 + OWN, 524_288)], False),
        (1024, FREE, [(2000 + OWN, FREE)], False),
        (2000 + OWN, 2000 + OWN, [], False),
        (FREE, FREE, [], False),
        (1024, 1500, [(1500, 1500)], True),
    ],
)
def test_the_limit_is_raised_as_far_as_it_is_needed_and_allowed(
    limits: Callable[[int, int], list[tuple[int, int]]],
    soft: int,
    hard: int,
    asked: list[tuple[int, int]],
    *,
    lacking: bool,
) -> None:
    done = limits(soft, hard)

    with capture_logs() as lines:
        make_room(2000)

    assert done == asked
    assert [line["event"] for line in lines] == ["too few file descriptors"] * lacking
