"""The body of one request, taken from the inbox piece by piece as the app asks for it.

`poll` gives what is here without waiting, so that a small body costs no turn of the scheduler;
`next_piece` waits. A body of known length is counted, one in chunks is read by `chunks`. Nothing
past the end of the body is taken: it is the next request.
"""

from typing import Final, Protocol

from dpp.http.chunks import PIECE_MAX, Chunks
from dpp.http.heads import Head, Violation
from dpp.http.inbox import Inbox

ENDED_EARLY: Final = Violation("malformed-http", "the connection ended before the body did")


class Body(Protocol):
    """A body that is being read."""

    @property
    def complete(self) -> bool:
        """Say whether all of it was taken."""
        ...

    def poll(self) -> bytes | Violation | None:
        """Return the next piece if it is here, b"" at the end, None if it has to be waited for."""
        ...

    @property
    def left(self) -> int | None:
        """Return how many bytes are still to come; None = nobody knows."""
        ...


class Source(Protocol):
    """Where the bytes of a body come from."""

    async def more(self) -> bool:
        """Wait for bytes beside those that are here; False = there will be none."""
        ...


class CountedBody:
    """A body whose length was announced, 0 included."""

    def __init__(self, length: int, inbox: Inbox) -> None:
        self._left = length
        self._inbox = inbox
        self.complete = length == 0

    @property
    def left(self) -> int | None:
        """Return how many bytes are still to come."""
        return self._left

    def poll(self) -> bytes | Violation | None:
        """Take what is here, at most to the end of this body."""
        if self.complete:
            return b""
        data = self._inbox.take(min(self._left, PIECE_MAX))
        self._left -= len(data)
        self.complete = self._left == 0
        return data or None


class ChunkedBody:
    """A body in chunks."""

    def __init__(self, inbox: Inbox) -> None:
        self._chunks = Chunks()
        self._inbox = inbox

    @property
    def complete(self) -> bool:
        """Say whether the last chunk and the trailers were read."""
        return self._chunks.complete

    @property
    def left(self) -> int | None:
        """Nobody knows before the last chunk."""
        return 0 if self.complete else None

    def poll(self) -> bytes | Violation | None:
        """Take the content of the chunks that are here, a bounded number of them."""
        read = self._chunks.read(self._inbox.held)
        if isinstance(read, Violation):
            return read
        content, size = read
        self._inbox.drop(size)
        return content if content or self.complete else None


def body_of(head: Head, inbox: Inbox) -> Body:
    """Return the body that this head announces."""
    if head.length is None:
        return ChunkedBody(inbox)
    return CountedBody(head.length, inbox)


async def next_piece(body: Body, source: Source) -> bytes | Violation:
    """Wait for the next piece of a body; b"" is its end."""
    while (piece := body.poll()) is None:
        if not await source.more():
            return ENDED_EARLY
    return piece
