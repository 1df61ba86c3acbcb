"""`Prefer` as RFC 7240 writes it: what is honoured, and what is passed over."""

from __future__ import annotations

import time

import pytest

from dpp.http.preferences import Preferences, read_preferences

MAX_S = 60


def read(*lines: str) -> Preferences:
    return read_preferences([line.encode("latin-1") for line in lines], MAX_S)


@pytest.mark.parametrize(
    ("lines", "wait_s"),
    [
        (["wait=10"], 10),
        (["wait=0"], 0),
        (["WAIT = 10"], 10),
        (['wait="10"'], 10),
        (["wait=010"], 10),
        (["respond-async, wait=10"], 10),
        (["return=minimal; foo=bar; x, wait=7;why"], 7),
        (['foo="a, wait=5", wait=7'], 7),
        (["foo", "wait=7"], 7),
        ([",, wait=7"], 7),
        (["wait=60"], 60),
        (["wait=61"], 60),
        (["wait=999999999"], 60),
        (["wait=7, wait=9"], 7),  # the first one counts
        (["wait=7", "wait=9"], 7),
        (["wait=x, wait=9"], None),
        (["wait"], None),
        (["wait="], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=+1"], None),
        (["wait=1e1"], None),
        (["wait=" + "9" * 5000], None),
        (['wait="10'], None),
        (["wait=\u00b2"], None),
        (["foo=(, wait=7"], None),  # what follows a syntax error is part of it
        (["waiting=7"], None),
        ([], None),
        ([""], None),
    ],
)
def test_wait_is_a_number_of_seconds_up_to_the_maximum(
    lines: list[str], wait_s: int | None
) -> None:
    assert read(*lines).wait_s == wait_s


@pytest.mark.parametrize(
    ("lines", "applied"),
    [
        (["wait=10"], b"wait=10"),
        (["wait=100"], b"wait=60"),
        (["respond-async"], b"respond-async"),
        (["Respond-Async;x"], b"respond-async"),
        (["wait=10, respond-async"], b"respond-async, wait=10"),
        (["wait=x, handling=strict"], None),
    ],
)
def test_what_was_applied_is_said(lines: list[str], applied: bytes | None) -> None:
    headers = read(*lines).applied()

    assert headers == (() if applied is None else ((b"preference-applied", applied),))


@pytest.mark.parametrize(
    "line",
    ["a" + "; " * 4000 + "\x00", "a" + ";  \t" * 4000 + "(", 'a="' + "x" * 16_000, "," * 16_000],
)
def test_hostile_header_costs_no_time(line: str) -> None:
    began_at = time.thread_time()

    assert read(line) == Preferences()

    assert time.thread_time() - began_at < 1  # exponential would be years
