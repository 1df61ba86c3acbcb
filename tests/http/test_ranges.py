"""Byte ranges: what a `Range` and an `If-Range` header ask for."""

from __future__ import annotations

import pytest

from dpp.http.ranges import Span, Unsatisfiable, Whole, asked

ETAG = b'"abc"'


def ask(text: bytes, length: int = 100, method: str = "GET", *if_range: bytes) -> object:
    headers = {b"range": [text], **({b"if-range": [*if_range]} if if_range else {})}
    return asked(method, headers, length, ETAG)


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        (b"bytes=0-0", 0, 1),
        (b"bytes=0-99", 0, 100),
        (b"bytes=10-19", 10, 20),
        (b"bytes=10-", 10, 100),
        (b"bytes=99-", 99, 100),
        (b"bytes=10-1000000000000", 10, 100),
        (b"bytes=-1", 99, 100),
        (b"bytes=-100", 0, 100),
        (b"bytes=-5000", 0, 100),
        (b"Bytes= 10-19 ", 10, 20),
        (b"bytes=007-008", 7, 9),
    ],
)
def test_one_range_is_what_it_says(text: bytes, start: int, stop: int) -> None:
    assert ask(text) == Span(start, stop, 100)


@pytest.mark.parametrize("text", [b"bytes=100-", b"bytes=100-200", b"bytes=-0", b"bytes=999-1000"])
def test_what_begins_behind_the_end_cannot_be_satisfied(text: bytes) -> None:
    assert ask(text) == Unsatisfiable(100)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"bytes", b"bytes=", b"bytes=-", b"bytes=a-b", b"bytes=5-4", b"bytes=--5"),
        *(b"bytes=0-1,5-6", b"bytes=0-1,", b"bytes=,0-1", b"lines=0-1", b"0-1", b"bytes 0-1"),
        *(b"bytes=0x1-2", b"bytes=1.0-2", b"bytes=+1-2", b"bytes=\xb2-3", b"bytes=0- 5"),
        *(b"bytes=" + b"9" * 19 + b"-", b"bytes=-" + b"9" * 5000, b"bytes=0-1;x=y"),
    ],
)
def test_whatever_else_stands_there_is_passed_over(text: bytes) -> None:
    assert ask(text) == Whole()


def test_several_lines_are_passed_over_and_so_is_none() -> None:
    assert asked("GET", {b"range": [b"bytes=0-1", b"bytes=2-3"]}, 100, ETAG) == Whole()
    assert asked("GET", {}, 100, ETAG) == Whole()


def test_a_range_is_of_get_alone() -> None:
    assert ask(b"bytes=0-1", method="HEAD") == Whole()


def test_range_counts_only_while_the_strong_tag_is_the_same() -> None:
    assert ask(b"bytes=0-1", 100, "GET", ETAG) == Span(0, 2, 100)
    for other in (b'"abd"', b'W/"abc"', b"abc", b"Sun, 29 Nov 2026 11:09:40 GMT", b""):
        assert ask(b"bytes=0-1", 100, "GET", other) == Whole()
        assert ask(b"bytes=200-", 100, "GET", other) == Whole()
    assert ask(b"bytes=0-1", 100, "GET", ETAG, ETAG) == Whole()


def test_spans_describe_themselves() -> None:
    assert Span(10, 20, 100).header == (b"content-range", b"bytes 10-19/100")
    assert Unsatisfiable(100).header == (b"content-range", b"bytes */100")
    assert (Span(10, 20, 100).size, Span(10, 20, 100).is_whole) == (10, False)
    assert Span(0, 100, 100).is_whole
