"""Replies: the bytes of an answer, whole or streamed.

Framing is decided once, when the first byte is due: a length where it is known, chunks for
HTTP/1.1, the end of the connection for HTTP/1.0, nothing after the head for HEAD, 204 and 304.
Written by hand, not by h11: its writer checks and copies every header several times and cost 35 of
its 75 µs a request. What it would catch is caught here: a line break in a header, a body longer or
shorter than announced.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from dpp.http.answers import Answer, Header

_REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_BODILESS: Final = frozenset({204, 304})
_HOP_BY_HOP: Final = frozenset({b"connection", b"transfer-encoding", b"keep-alive"})
JOINED_MAX: Final = 64 * 1024  # of a body: to copy it costs less than to write once more


class ReplyBroken(Exception):
    """The app sent what makes no HTTP message."""


class Reply:
    """One reply: `start`, then `piece` until the last; each returns what is to be sent."""

    def __init__(self, method: str, version: str) -> None:
        self.started = False
        self.complete = False
        self.bodiless = False
        self._method = method
        self._version = version
        self._left: int | None = None
        self._chunked = False

    def start(
        self,
        status: int,
        headers: Iterable[Header],
        date: bytes,
        first: bytes,
        *,
        more: bool,
        keep: bool,
    ) -> tuple[bytes, ...]:
        """Return the head with the first piece of the body; `more` = the app will send others.

        A large piece comes after the head, as it is: joined, it would be held twice for as long as
        its reader takes.
        """
        lines = self.framed(status, headers, len(first), more=more, keep=keep)
        head, piece = head_of(status, lines, date), self.piece(first, more=more)
        self.started = True  # not before: of an answer that cannot be written, nothing went out
        return (head + piece,) if len(piece) <= JOINED_MAX else (head, piece)

    def framed(
        self, status: int, headers: Iterable[Header], size: int, *, more: bool, keep: bool
    ) -> list[Header]:
        """Decide how the body ends, from the size of its first piece; return all headers."""
        assert not self.started
        self.bodiless = self._method == "HEAD" or status in _BODILESS
        lines = [(name, value) for name, value in headers if name not in _HOP_BY_HOP]
        self._frame(status, lines, size, more=more)
        if not keep or self.needs_close:
            lines.append((b"connection", b"close"))
        return lines

    def piece(self, data: bytes, *, more: bool) -> bytes:
        """Return a further piece of the body as it goes out."""
        self.count(data, more=more)
        if self.bodiless:
            return b""
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        return data

    def count(self, data: bytes, *, more: bool) -> None:
        """Take a piece of the body into account; raises `ReplyBroken` where it does not fit."""
        if self.complete:
            message = "a reply goes on after its end"
            raise ReplyBroken(message)
        if self._left is not None and not self.bodiless:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                message = "a body is not as long as its Content-Length"
                raise ReplyBroken(message)
        self.complete = not more

    @property
    def needs_close(self) -> bool:
        """Say whether only the end of the connection ends this body."""
        return self._left is None and not self._chunked and not self.bodiless

    def _frame(self, status: int, lines: list[Header], size: int, *, more: bool) -> None:
        """Decide where the body ends, and say so in the headers."""
        announced = next((value for name, value in lines if name == b"content-length"), None)
        if announced is not None:
            self._left = int(announced)
        elif not more and status not in _BODILESS:
            self._left = size
            lines.append((b"content-length", b"%d" % size))
        elif self._version == "1.1" and not self.bodiless:
            self._chunked = True
            lines.append((b"transfer-encoding", b"chunked"))


def last_words(answer: Answer, method: str, date: bytes) -> bytes:
    """Return a whole answer that announces the end of the connection."""
    headers = [(b"content-type", answer.media_type), *answer.headers]
    reply = Reply(method, "1.1")
    parts = reply.start(answer.status, headers, date, answer.body, more=False, keep=False)
    return b"".join(parts)


def head_of(status: int, lines: list[Header], date: bytes) -> bytes:
    """Return the head of a reply; raises `ReplyBroken` where a header would end it."""
    parts = [b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (status, _REASONS.get(status, b""), date)]
    parts += [b"%b: %b\r\n" % line for line in lines]
    parts.append(b"\r\n")
    head = b"".join(parts)
    breaks = len(lines) + 3  # status, date, the empty line
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        message = "a header holds a line break"
        raise ReplyBroken(message)
    return head
