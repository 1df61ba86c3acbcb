"""Requests as they arrive: heads, and whole requests, checked and bounded before hypercorn hears.

Whole ones are for the management listener, whose requests are few and small. What hypercorn is
given is written anew from what was understood here, so the two cannot read it differently: one
request, one length, no coding, no upgrade, and nothing after it.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import frozen

from dpp.http import heads
from dpp.http.bodies import body_of, next_piece
from dpp.http.exchange import CONTINUE, TOO_SLOW
from dpp.http.heads import Head, Violation
from dpp.http.inbox import Inbox, Peer

HEAD_S: Final = 5.0  # as on the public listener
BODY_S: Final = 10.0
EMPTY_LINES_MAX: Final = 8  # before a request; old clients send one
LATE: Final = Violation("request-timeout", "the head did not arrive in time")
NO_REQUEST: Final = Violation("malformed-http", "there are only empty lines")
CUT: Final = Violation("malformed-http", "the connection ended in a head")

# Of the connection, not of the request; the last one is answered here.
_NOT_PASSED_ON: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",  # the app is the same under any name, and werkzeug cannot answer all of them
        b"http2-settings",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


@frozen
class Arrival:
    """A request that is all here."""

    head: Head
    body: bytes

    def written(self) -> bytes:
        """Return it as HTTP that can be read in one way."""
        head = self.head
        target = head.raw_path + (b"?" + head.query if head.query else b"")
        lines = [b"%b %b HTTP/%b" % (head.method.encode(), target, head.version.encode())]
        lines += [b"%b: %b" % pair for pair in head.headers if pair[0] not in _NOT_PASSED_ON]
        lines.append(b"content-length: %d" % len(self.body))
        lines.append(b"host: localhost")
        lines.append(b"connection: close")
        return b"\r\n".join([*lines, b"", self.body])


async def arrive(
    inbox: Inbox, send: Callable[[bytes], Awaitable[object]], *, body_max: int
) -> Arrival | Violation | None:
    """Wait for a request; None = nobody is there to be told that it did not come."""
    head: Head | Violation | None = LATE
    with trio.move_on_after(HEAD_S):
        head = await next_head(inbox)
    if not isinstance(head, Head):
        return head if inbox.held or head is not LATE else None
    if head.length is not None and head.length > body_max:
        return _too_large(body_max)
    body: bytes | Violation = TOO_SLOW
    with trio.move_on_after(BODY_S):
        if head.expects_continue and not inbox.held:
            await send(CONTINUE)
        body = await _body(head, inbox, body_max)
    return Arrival(head, body) if isinstance(body, bytes) else body


async def next_head(inbox: Inbox) -> Head | Violation | None:
    """Wait for a head; None = the peer left without a word."""
    searched = empty_lines = 0
    while True:
        while inbox.held.startswith(b"\r\n"):  # RFC 9112, 2.2: they are passed over
            empty_lines += 1
            if empty_lines > EMPTY_LINES_MAX:
                return NO_REQUEST
            inbox.drop(2)
            searched = 0
        end = heads.find_end(inbox.held, searched)
        if end is not None:
            return heads.parse(inbox.take(end)) if isinstance(end, int) else end
        searched = len(inbox.held)
        if not await inbox.more():
            return CUT if inbox.held and inbox.peer is Peer.ENDED else None


async def _body(head: Head, inbox: Inbox, body_max: int) -> bytes | Violation:
    body = body_of(head, inbox)
    whole = b""
    while not body.complete:
        piece = await next_piece(body, inbox)
        if isinstance(piece, Violation):
            return piece
        whole += piece
        if len(whole) > body_max:
            return _too_large(body_max)
        await trio.lowlevel.checkpoint()
    return whole


def _too_large(body_max: int) -> Violation:
    return Violation("payload-too-large", f"the body may have at most {body_max} bytes")
