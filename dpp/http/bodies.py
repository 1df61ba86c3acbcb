"""The body of one request, taken from the inbox piece by piece as the app asks for it.

`poll` gives what is here without waiting, so that a small body costs no turn of the scheduler;
`next_piece` waits. A body of known length is counted, chunks are h11's. What the parser read past
the end goes back to the inbox: it is the next request.
"""

from typing import Final, Protocol

import h11

from dpp.http.heads import Head, Violation, malformed
from dpp.http.inbox import Inbox

PIECE_MAX: Final = 64 * 1024

ENDED_EARLY: Final = Violation("malformed-http", "the connection ended before the body did")


class Body(Protocol):
    """A body that is being read."""

    complete: bool

    def poll(self) -> bytes | Violation | None:
        """Return the next piece if it is here, b"" at the end, None if it has to be waited for."""
        ...

    @property
    def left(self) -> int | None:
        """Return how many bytes are still to come; None = nobody knows."""
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
    """A body in chunks, as h11 reads them."""

    def __init__(self, parser: h11.Connection, inbox: Inbox) -> None:
        self._parser = parser
        self._inbox = inbox
        self.complete = False

    @property
    def left(self) -> int | None:
        """Nobody knows before the last chunk."""
        return 0 if self.complete else None

    def poll(self) -> bytes | Violation | None:
        """Feed h11 with what is here until it has a piece."""
        while not self.complete:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                return malformed(error)
            if isinstance(event, h11.Data) and event.data:
                return bytes(event.data)
            if isinstance(event, h11.EndOfMessage):
                self.complete = True
                self._inbox.give_back(self._parser.trailing_data[0])
            elif event is h11.NEED_DATA:
                if not self._inbox.held:
                    return None
                self._parser.receive_data(self._inbox.take(PIECE_MAX))
        return b""


def body_of(head: Head, inbox: Inbox) -> Body:
    """Return the body that this head announces."""
    if head.length is None:
        return ChunkedBody(head.parser, inbox)
    return CountedBody(head.length, inbox)


async def next_piece(body: Body, inbox: Inbox) -> bytes | Violation:
    """Wait for the next piece of a body; b"" is its end."""
    while (piece := body.poll()) is None:
        if not await inbox.more():
            return ENDED_EARLY
    return piece
