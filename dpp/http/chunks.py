"""The chunks of one body (RFC 9112, 7.1): framing is taken off, content is left.

Written by hand, because h11 takes what a proxy in front may read another way: bare line breaks in
an extension, bare line feeds among trailers, blanks after a size. Extensions and trailers are
checked and forgotten. What framing may cost is bounded: a line, all trailers, all of it beside the
content, and the chunks that are read between two turns of the scheduler. Pure: bytes in, bytes out.
"""

import re
from typing import Final

from dpp.http.heads import Violation

PIECE_MAX: Final = 64 * 1024
CHUNKS_MAX: Final = 256  # read at a time: about 0.3 ms
LINE_MAX: Final = 256  # a size and its extension; a signature in one takes 85 bytes
TRAILERS_MAX: Final = 4 * 1024
FRAMING_FREE: Final = 16 * 1024  # beyond it there may be no more framing than content

_FIELD: Final = rb"[\t\x20-\x7e\x80-\xff]*"
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;" + _FIELD + rb")?\r\n")
_END: Final = re.compile(rb"\r\n")
_TRAILER: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:" + _FIELD + rb")?\r\n")


class Chunks:
    """A body that is being read. `complete` once its last trailer was."""

    def __init__(self) -> None:
        self.complete = False
        self._next = _SIZE  # the line that is expected once the chunk is over
        self._left = 0  # of the chunk
        self._framing = 0
        self._content = 0
        self._trailers = 0

    def read(self, held: bytearray) -> tuple[bytes, int] | Violation:
        """Return content, and how many of the bytes `held` were read for it."""
        pieces: list[bytes] = []
        at = size = lines = 0
        while not self.complete and lines < CHUNKS_MAX and size < PIECE_MAX and at < len(held):
            if self._left:
                piece = bytes(held[at : at + min(self._left, PIECE_MAX - size)])
                pieces.append(piece)
                at += len(piece)
                size += len(piece)
                self._left -= len(piece)
                continue
            line = self._line(held, at)
            if isinstance(line, Violation):
                return line
            if line is None:
                break
            at = line.end()
            lines += line.re is _SIZE
            refused = self._follow(line)
            if refused is not None:
                return refused
        return b"".join(pieces), at

    def _line(self, held: bytearray, at: int) -> re.Match[bytes] | Violation | None:
        """Return the line that begins here; None = it is not all here."""
        end = at + LINE_MAX if self._next is not _TRAILER else at + TRAILERS_MAX - self._trailers
        line = self._next.match(held, at, end)
        if line is not None:
            return line
        if self._next is _END and bytes(held[at : at + 2]) not in (b"\r", b"\r\n"):
            return _refused("a chunk is longer than its size")
        if held.find(b"\n", at, end) >= 0:
            return _refused("a line between chunks is not well-formed")
        if len(held) >= end:
            return _refused("a line between chunks is too long")
        return None

    def _follow(self, line: re.Match[bytes]) -> Violation | None:
        """Take in a line, and know what comes next."""
        taken = line.end() - line.start()
        if self._next is _END:
            self._next = _SIZE
        elif self._next is _TRAILER:
            self._trailers += taken
            self.complete = line.group() == b"\r\n"
        else:
            self._left = int(line.group(1), 16)
            self._next = _END if self._left else _TRAILER
            self._content += self._left
            self._framing += taken + 2  # and the end of the chunk
            if self._framing > FRAMING_FREE + self._content:
                return _refused("the chunks are too small")
        return None


def _refused(detail: str) -> Violation:
    return Violation("malformed-http", detail)
