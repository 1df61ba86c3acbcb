"""The actor of one connection: it reads a request, lets the app answer, and goes on to the next.

Two tasks: `Inbox.fill` reads, this one does all else, so pipelined requests are answered in order.
HTTP/1.1 only; no fault of a request, an app or a peer leaves `guard`: it is logged, counted, and
ends this connection alone. Every wait for the peer is bounded (`Patience`): the deadline of one
cancel scope moves with what is waited for.
"""

from collections.abc import Callable
from email.utils import formatdate
from enum import Enum, auto
from math import inf
from typing import Final, Literal, Protocol, TypeAlias

import trio

from dpp.faults import StoreUnavailable
from dpp.http import heads
from dpp.http.answers import Answer
from dpp.http.arrivals import CUT, EMPTY_LINES_MAX, LATE, NO_REQUEST
from dpp.http.asgi import Address, App
from dpp.http.bodies import body_of
from dpp.http.direct import DirectSocket
from dpp.http.exchange import Exchange, Patience
from dpp.http.heads import Head, Violation
from dpp.http.inbox import Inbox, Peer
from dpp.http.replies import last_words
from dpp.logs import get_logger
from dpp.metrics import http_connection_faults_total

Refuse: TypeAlias = Callable[[Violation, Head | None], Answer]

# How to leave: without a word, after the peer had time to read, or after saying what is wrong.
Parting: TypeAlias = Literal["linger"] | tuple[Violation, Head | None] | None

REQUESTS_MAX: Final = 100_000  # then a new connection: whatever a connection gathers, it sheds
# After the drain began, for the first request of a connection: its client has just connected, and
# the request is on its way. On one that carried a request before, the next is for another.
FIRST_S: Final = 1.0
OURS: Final = Violation("internal-error", "it is logged under this request_id")

log = get_logger(__name__)


class Phase(Enum):
    """What is waited for between two answers."""

    IDLE = auto()
    HEAD = auto()


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
        self._direct = DirectSocket(stream)
        self._inbox = Inbox(self._direct, self._peer_ended)
        self._exchange: Exchange | None = None
        self._work = trio.CancelScope()  # one for all waits: entering one a wait is dear
        self.idle_since: float | None = None
        self._phase = Phase.IDLE
        self._empty_lines = 0  # before the head that is awaited
        self._draining = False
        self._fresh = True  # no request came on it yet
        self._client = _address(stream.socket.getpeername())
        self._server = _address(stream.socket.getsockname())

    def drain(self) -> None:
        """Finish what is being answered, then close; an idle connection closes now.

        One that has just been made may bring its one request.
        """
        self._draining, self.idle_since = True, None
        if self._exchange is not None:
            self._exchange.keep = False
        elif self._phase is Phase.IDLE:
            if self._fresh:
                self._work.deadline = min(self._work.deadline, trio.current_time() + FIRST_S)
            elif not self._inbox.held:  # else a request has just come: it is answered
                self._work.cancel(reason="drain")

    async def run(self) -> None:
        """Serve this connection to its end; the stream is closed afterwards in any case."""
        async with self._stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._inbox.fill)
            parting: Parting = None
            with self._work:
                parting = await self._converse()
            if self._work.cancelled_caught:
                parting = self._cut_short()
            with trio.move_on_after(self._patience.linger_s):
                await self._part(parting)
            nursery.cancel_scope.cancel(reason="connection over")

    async def _converse(self) -> Parting:
        """Serve request after request; return how to part."""
        for served in range(1, REQUESTS_MAX + 1):
            head = await self._next_head()
            if not isinstance(head, Head):
                return None if head is None else (head, None)
            exchange = await self._serve(head, last=served == REQUESTS_MAX)
            if not exchange.reply.started:
                return OURS, head
            if not exchange.keep:
                return "linger"
            if not exchange.body.complete and not await exchange.finish_body():
                return "linger"
        raise AssertionError

    async def _serve(self, head: Head, *, last: bool) -> Exchange:
        """Let the app answer one request; where it fails, the reply has not started."""
        exchange = self._exchange = Exchange(
            head,
            body_of(head, self._inbox),
            self._inbox,
            self._stream,
            self._work,
            self._patience,
            self._dates.now(),
            self._direct.send_now,
        )
        exchange.keep = head.keep_alive and not last and not self._draining
        if self._inbox.peer is not Peer.OPEN:
            exchange.peer_ended(self._inbox.peer)
        scope = exchange.scope(self._client, self._server)
        try:
            await self._app(scope, exchange.receive, exchange.send)
            assert exchange.reply.complete, "a request was left unanswered"
        except Exception:
            if exchange.reply.started:
                raise  # half an answer cannot be taken back: the peer sees it cut
            http_connection_faults_total.inc()
            log.exception("an app failed", method=head.method)
        if self._inbox.held:  # else a peer that asks fast enough would hold up all others
            await trio.lowlevel.checkpoint()
        self._exchange = None
        return exchange

    def _cut_short(self) -> Parting:
        """Return how to part where a deadline passed, the peer broke off, or the node drains."""
        exchange = self._exchange
        if exchange is not None:
            if exchange.violation is None or exchange.reply.started:
                return None
            return exchange.violation, exchange.head
        late = self._phase is Phase.HEAD and bool(self._inbox.held)
        return (LATE, None) if late else None

    async def _next_head(self) -> Head | Violation | None:
        """Wait for a request; None = there will be none."""
        inbox, self._phase, self._empty_lines = self._inbox, Phase.IDLE, 0
        if not inbox.held:
            if self._draining and not self._fresh:
                return None
            now = trio.current_time()
            if self._fresh:
                self._work.deadline = now + (FIRST_S if self._draining else self._patience.head_s)
            else:
                self.idle_since = now  # whoever let it in closes it when that is too long
            await inbox.more()
            self.idle_since = None
        self._phase, self._fresh = Phase.HEAD, False
        head = self._take_head(0)
        if head is None:
            self._work.deadline = trio.current_time() + self._patience.head_s
        while head is None:
            searched = len(inbox.held)
            if not await inbox.more():
                return CUT if inbox.held and inbox.peer is Peer.ENDED else None
            head = self._take_head(searched)
        if self._work.deadline != inf:  # to move it is dear, to look is not
            self._work.deadline = inf
        return head

    def _take_head(self, searched: int) -> Head | Violation | None:
        """Take the next head if it is all here; `searched` bytes were looked at before."""
        inbox = self._inbox
        while inbox.held.startswith(b"\r\n"):  # RFC 9112, 2.2: empty lines before are passed over
            self._empty_lines += 1
            if self._empty_lines > EMPTY_LINES_MAX:
                return NO_REQUEST
            inbox.drop(2)
            searched = 0
        end = heads.find_end(inbox.held, searched)
        return heads.parse(inbox.take(end)) if isinstance(end, int) else end

    async def _part(self, parting: Parting) -> None:
        """Say what is to be said, and let the peer read it: closing over unread bytes resets."""
        if isinstance(parting, tuple):
            violation, head = parting
            answer = self._refuse(violation, head)
            out = last_words(answer, head.method if head else "", self._dates.now())
            await self._stream.send_all(out)
        if parting is not None and self._inbox.peer is Peer.OPEN:
            await self._stream.send_eof()
            self._inbox.clear()
            while await self._inbox.more():
                self._inbox.clear()

    def _peer_ended(self, peer: Peer) -> None:
        if self._exchange is not None:
            self._exchange.peer_ended(peer)


class Served(Protocol):
    """A connection that can be served to its end.

    `idle_since`: when its last request was over, while it waits for another one, which whoever let
    it in bounds; None = it has work, has had none yet, or ends.
    """

    idle_since: float | None

    async def run(self) -> None:
        """Serve this connection to its end; the stream is closed afterwards in any case."""
        ...

    def drain(self) -> None:
        """Finish what is being answered, then close; an idle connection closes now."""
        ...


async def guard(connection: Served) -> None:
    """Serve a connection; whatever goes wrong with it ends here."""
    try:
        await connection.run()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the peer is gone: as ordinary as its coming
    except* StoreUnavailable as outages:
        log.warning("answer cut short", detail=str(_first(outages)))
    except* Exception:
        http_connection_faults_total.inc()
        log.exception("connection failed")


def _first(error: BaseException) -> BaseException:
    """Return the first that is no group."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _address(name: object) -> Address | None:
    """Return host and port as ASGI has them; a Unix socket has neither."""
    return (name[0], name[1]) if isinstance(name, tuple) else None
