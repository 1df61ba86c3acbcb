"""Cutting a batch's body into its submissions without reading them.

What bounds one submission then bounds the work on each piece. Pure, and short at each step: `run`
is an iterator that stops after every few KiB, so that others may have their turn.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

Span: TypeAlias = tuple[int, int]  # where a piece begins and ends in the body

WINDOW: Final = 8 * 1024  # bytes between two stops: 5 ms where all of them are brackets
LEVEL: Final = 2  # `{` and `[` stand around a submission

# What needs no look, whole strings included. Unrolled, so that nothing is tried twice, and without
# possessive groups, which Python before 3.11.5 matches wrongly (python/cpython#106052).
_INSIDE: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)  # of a string
_PLAIN: Final = re.compile(rb'[^"\[\]{}]*(?:"' + _INSIDE.pattern + rb'"[^"\[\]{}]*)*', re.DOTALL)
_TEXT: Final = re.compile(rb"[^ \t\r\n]")


class ArrayCut:
    """A walk over `{"runs": [{…}, {…}]}`.

    The objects two levels down are the pieces, and `{}` is left in their places. The rest is then
    small and read like any body. Strings are passed over as a whole; brackets are counted and not
    matched, for a piece or a rest that does not match is no JSON, and is refused as that.

    Past its bounds the walk ends early; `brackets` then tells.
    """

    def __init__(self, body: bytes, *, pieces_max: int, rest_max: int, brackets_max: int) -> None:
        self.pieces: list[Span] = []
        self.brackets = 0
        self.at = 0  # how far the walk is
        self._body = body
        self._pieces_max = pieces_max
        self._rest_max = rest_max
        self._brackets_max = brackets_max
        self._rest = bytearray()
        self._kept = 0  # up to here the body is in the rest or in a piece
        self._begin = -1  # where the piece begins that the walk is in
        self._depth = 0
        self._in_string = False

    def run(self) -> Iterator[None]:
        """Walk, with a stop after each window."""
        end = len(self._body)
        while self.at < end and not self._enough():
            stop = min(self.at + WINDOW, end)
            while self.at < stop:
                step = self._through if self._in_string else self._step
                self.at = step(self.at, stop)
            yield
        last = self._kept + self._rest_max + 1 if self._begin < 0 else self._begin + 1
        self._rest += self._body[self._kept : last]

    @property
    def rest(self) -> bytes:
        """What is around the pieces; longer than `rest_max` where that is too much."""
        return bytes(self._rest)

    def _enough(self) -> bool:
        outside = 0 if self._begin >= 0 else self.at - self._kept
        return (
            len(self.pieces) > self._pieces_max
            or self.brackets > self._brackets_max
            or len(self._rest) + outside > self._rest_max
        )

    def _step(self, at: int, stop: int) -> int:
        """Go on to the next bracket and past it, or to the stop."""
        found = _PLAIN.match(self._body, at, stop)
        assert found is not None
        at = found.end()
        if at == stop:
            return at
        mark = self._body[at]
        if mark == ord('"'):  # of a string that ends behind the stop
            self._in_string = True
        elif mark in b"{[":
            self._open(at, mark)
        else:
            self._close(at, mark)
        return at + 1

    def _open(self, at: int, mark: int) -> None:
        if self._depth == LEVEL:
            self._begin = at if mark == ord("{") else -1
        self._depth += 1
        self.brackets += 1

    def _close(self, at: int, mark: int) -> None:
        self._depth -= 1
        if self._depth != LEVEL or self._begin < 0:
            return
        if mark == ord("}"):
            self.pieces.append((self._begin, at + 1))
            self._rest += self._body[self._kept : self._begin] + b"{}"
            self._kept = at + 1
        self._begin = -1

    def _through(self, at: int, stop: int) -> int:
        """Go on inside of a string, to its end and past it, or to the stop."""
        found = _INSIDE.match(self._body, at, stop)
        assert found is not None
        at = found.end()
        if at == stop:
            return at
        self._in_string = self._body[at] != ord('"')
        return at + 2 if self._in_string else at + 1  # an escape that the stop cut in two


class LineCut:
    """A walk over lines; the pieces are those that are not blank."""

    def __init__(self, body: bytes, *, pieces_max: int) -> None:
        self.pieces: list[Span] = []
        self._body = body
        self._pieces_max = pieces_max

    def run(self) -> Iterator[None]:
        """Walk, with a stop after each line and each window of blanks."""
        at, end = 0, len(self._body)
        while at < end and len(self.pieces) <= self._pieces_max:
            found = _TEXT.search(self._body, at, at + WINDOW)
            if found is None:
                at += WINDOW
            else:
                newline = self._body.find(b"\n", found.start())
                at = end if newline < 0 else newline
                self.pieces.append((found.start(), at))
            yield
