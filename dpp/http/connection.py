"""The actor of one connection: it reads a request, lets the app answer, and goes on to the next.

Two tasks: `Inbox.fill` reads, this one does all else, so pipelined requests are answered in order.
HTTP/1.1 only; no fault of a request, an app or a peer leaves `guard`: it is logged, counted, and
ends this connection alone. Every wait for the peer is bounded (`Patience`).
"""

from collections.abc import Callable
from email.utils import formatdate
from typing import Final, TypeAlias

import trio

from dpp.http import heads
from dpp.http.answers import Answer
from dpp.http.asgi import Address, App
from dpp.http.exchange import Exchange, Patience
from dpp.http.heads import Head, Violation
from dpp.http.inbox import Inbox, Peer
from dpp.http.replies import last_words
from dpp.logs import get_logger
from dpp.metrics import http_connection_faults_total

Refuse: TypeAlias = Callable[[Violation, Head | None], Answer]

REQUESTS_MAX: Final = 100_000  # then a new connection: whatever a connection gathers, it sheds
LATE: Final = Violation("request-timeout", "the head did not arrive in time")

log = get_logger(__name__)


class Dates:
    """The Date header, made anew once a second."""

    def __init__(self) -> None:
        self._made_at = -1.0
        self._text = b""

    def now(self) -> bytes:
        """Return the date as HTTP writes it; off by a second at most."""
        now = trio.current_time()
        if not self._made_at <= now < self._made_at + 1:
            self._made_at, self._text = now, formatdate(usegmt=True).encode("ascii")
        return self._text


class Connection:
    """One client's connection. `refuse` makes the answer to what never reaches the app."""

    def __init__(
        self,
        stream: trio.SocketStream,
        app: App,
        refuse: Refuse,
        *,
        patience: Patience,
        dates: Dates,
    ) -> None:
        self._stream = stream
        self._app = app
        self._refuse = refuse
        self._patience = patience
        self._dates = dates
        self._inbox = Inbox(stream, self._peer_ended)
        self._exchange: Exchange | None = None
        self._idle: trio.CancelScope | None = None
        self._draining = False
        self._client = _address(stream.socket.getpeername())
        self._server = _address(stream.socket.getsockname())

    def drain(self) -> None:
        """Finish what is being answered, then close; an idle connection closes now."""
        self._draining = True
        if self._idle is not None:
            self._idle.cancel(reason="drain")
        if self._exchange is not None:
            self._exchange.keep = False

    async def run(self) -> None:
        """Serve this connection to its end; the stream is closed afterwards in any case."""
        async with self._stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._inbox.fill)
            for served in range(1, REQUESTS_MAX + 1):
                if not await self._serve_one(last=served == REQUESTS_MAX):
                    break
            nursery.cancel_scope.cancel(reason="connection over")

    async def _serve_one(self, *, last: bool) -> bool:
        """Read one request and answer it; False = the connection is over."""
        head = await self._next_head()
        if head is None:
            return False
        if isinstance(head, Violation):
            await self._say_no(head, None)
            return False
        exchange = self._exchange = Exchange(
            head, self._inbox, self._stream, self._patience, self._dates.now()
        )
        exchange.keep = head.keep_alive and not last and not self._draining
        if self._inbox.peer is not Peer.OPEN:
            exchange.peer_ended(self._inbox.peer)
        with exchange.work:
            await self._app(
                exchange.scope(self._client, self._server), exchange.receive, exchange.send
            )
        self._exchange = None
        return await self._close_or_keep(exchange)

    async def _close_or_keep(self, exchange: Exchange) -> bool:
        if exchange.violation is not None and not exchange.reply.started:
            await self._say_no(exchange.violation, exchange.head)
        elif exchange.reply.complete and exchange.keep:
            return exchange.body.complete or await exchange.finish_body()
        elif exchange.reply.complete and self._inbox.peer is Peer.OPEN:
            await self._linger()
        elif not exchange.reply.complete and not exchange.work.cancel_called:
            log.error("a request was left unanswered", method=exchange.head.method)
        return False

    async def _next_head(self) -> Head | Violation | None:
        """Wait for a request; None = there will be none."""
        if not await self._first_byte():
            return None
        with trio.move_on_after(self._patience.head_s):
            return await self._read_head()
        return LATE

    async def _first_byte(self) -> bool:
        inbox = self._inbox
        if not inbox.held and not self._draining:
            with trio.move_on_after(self._patience.idle_s) as self._idle:
                await inbox.more()
            self._idle = None
        return bool(inbox.held)

    async def _read_head(self) -> Head | Violation | None:
        inbox, searched = self._inbox, 0
        while True:
            while inbox.held.startswith(
                b"\r\n"
            ):  # RFC 9112, 2.2: empty lines before a request are passed over
                inbox.take(2)
                searched = 0
            end = heads.find_end(inbox.held, searched)
            if isinstance(end, Violation):
                return end
            if end is not None:
                return heads.parse(inbox.take(end))
            searched = len(inbox.held)
            if not await inbox.more():
                cut = bool(inbox.held.strip()) and inbox.peer is Peer.ENDED
                return (
                    Violation("malformed-http", "the connection ended in a head") if cut else None
                )

    async def _say_no(self, violation: Violation, head: Head | None) -> None:
        """Answer what never reached the app, and close."""
        answer = self._refuse(violation, head)
        out = last_words(answer, head.method if head else "", self._dates.now())
        with trio.move_on_after(self._patience.send_s):
            await self._stream.send_all(out)
            await self._linger()

    async def _linger(self) -> None:
        """Let the peer read the answer: closing over unread bytes would reset the connection."""
        with trio.move_on_after(self._patience.linger_s):
            await self._stream.send_eof()
            self._inbox.clear()
            while await self._inbox.more():
                self._inbox.clear()

    def _peer_ended(self, peer: Peer) -> None:
        if self._exchange is not None:
            self._exchange.peer_ended(peer)


async def guard(connection: Connection) -> None:
    """Serve a connection; whatever goes wrong with it ends here."""
    try:
        await connection.run()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the peer is gone: as ordinary as its coming
    except* Exception:
        http_connection_faults_total.inc()
        log.exception("connection failed")


def _address(name: object) -> Address | None:
    """Return host and port as ASGI has them; a Unix socket has neither."""
    return (name[0], name[1]) if isinstance(name, tuple) else None
