"""Byte ranges (RFC 9110, 14): which part of a body a GET asks for.

One range is answered. Whatever else stands in the header (several ranges, another unit, no range at
all) is passed over, and the whole is sent, as the RFC allows.
"""

import re
from typing import Final, TypeAlias

from attrs import frozen

from dpp.http.answers import Header
from dpp.http.requests import Headers

BYTES: Final[Header] = (b"accept-ranges", b"bytes")

# No body has a length of more digits than 18.
_RANGE: Final = re.compile(rb"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


@frozen
class Span:
    """Bytes `start` up to, not with, `stop` of a body of `length`."""

    start: int
    stop: int
    length: int

    @property
    def size(self) -> int:
        """Return how many bytes it is."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Say whether it is all of the body."""
        return self.size == self.length

    @property
    def header(self) -> Header:
        """Return the `Content-Range` that describes it."""
        return b"content-range", b"bytes %d-%d/%d" % (self.start, self.stop - 1, self.length)


@frozen
class Whole:
    """No range is asked for: all of it."""


@frozen
class Unsatisfiable:
    """None of the bytes that are asked for exists."""

    length: int

    @property
    def header(self) -> Header:
        """Return the `Content-Range` that says how many there are."""
        return b"content-range", b"bytes */%d" % self.length


Asked: TypeAlias = Span | Whole | Unsatisfiable


def asked(method: str, headers: Headers, length: int, etag: bytes) -> Asked:
    """Return which part of a body of this length a request wants."""
    lines = headers.get(b"range", [])
    if method != "GET" or len(lines) != 1 or not _still(headers, etag):
        return Whole()
    match = _RANGE.fullmatch(lines[0])
    if match is None or match.groups() == (b"", b""):
        return Whole()
    first, last = match.groups()
    if not first:  # the last so many
        start, stop = max(length - int(last), 0), length
    else:
        if last and int(last) < int(first):
            return Whole()
        start, stop = int(first), min(int(last) + 1, length) if last else length
    return Span(start, stop, length) if start < stop else Unsatisfiable(length)


def _still(headers: Headers, etag: bytes) -> bool:
    """Say whether `If-Range` lets the range count: by the strong tag alone; we date nothing."""
    lines = headers.get(b"if-range", [])
    return not lines or (len(lines) == 1 and lines[0].strip() == etag)
