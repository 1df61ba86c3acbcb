"""One request that hypercorn answers for us: an exchange whose bytes hypercorn writes.

The app gets from here what it gets on a connection of our own: the same scope, bodies, deadlines
and refusals. hypercorn is told no more of a request than how its answer must be framed, so no byte
of a peer's request reaches what hypercorn does over HTTP/1.1.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import trio
from attrs import field, frozen

from dpp.faults import StoreUnavailable
from dpp.http.asgi import Address, App, Message, Receive, Scope, Send
from dpp.http.bodies import Body, Source
from dpp.http.connection import OURS, Refuse
from dpp.http.exchange import Exchange, Patience
from dpp.http.heads import Head, Violation
from dpp.http.inbox import Peer
from dpp.http.replies import head_of
from dpp.http.untaken import Untaken
from dpp.logs import get_logger
from dpp.metrics import http_connection_faults_total

Taken: TypeAlias = Callable[[], Awaitable[None]]

PIECE: Final = 16 * 1024  # of a body: one frame of HTTP/2, one record of TLS
TOO_MUCH: Final = Violation(
    "temporary-reduced-capacity", "this connection has too many answers that it does not take"
)

_OF_HTTP_1: Final = frozenset({b"connection", b"transfer-encoding"})

log = get_logger(__name__)


@frozen(kw_only=True, eq=False)
class Side:
    """Our side of one connection: what all of its requests share."""

    app: App
    refuse: Refuse
    stream: trio.abc.SendStream
    sending: trio.Lock
    patience: Patience
    client: Address | None
    server: Address | None
    secure: bool
    untaken: Untaken = field(factory=Untaken)


class Relay(Exchange):
    """A request being answered through hypercorn, which calls it as its app, in a task of its own.

    `ended` is set when the app has ended. `mute` = nobody is to be told anything any more; what
    hypercorn would say instead of an answer must not go out then.
    """

    def __init__(
        self,
        side: Side,
        head: Head,
        body: Body,
        source: Source,
        *,
        violation: Violation | None = None,
        taken: Taken | None = None,
    ) -> None:
        work = trio.CancelScope()
        super().__init__(head, body, source, side.stream, work, side.patience, b"")
        self._sending = side.sending  # of the connection: hypercorn holds it while it writes
        self.violation = violation
        self.ended = trio.Event()
        self.mute = False
        self._side = side
        self._taken = taken

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send, *_: Any) -> None:
        """Answer. Whatever the app does, there is an answer, or its peer is gone."""
        self._relay = send
        try:
            with self._work:
                await self._answer()
            if not self.reply.started:
                self.mute = self._work.cancelled_caught and self.violation is None
                if not self.mute:
                    self._work = trio.CancelScope()  # the app's is over: this has its own wait
                    with self._work:
                        await self._say(self.violation or OURS)
        finally:
            self.keep = self.keep and self.reply.complete
            self.ended.set()

    async def receive(self) -> Message:
        """Return the next piece of the body, and have the peer told that it was taken."""
        message = await super().receive()
        if self._taken is not None:
            await self._taken()
        return message

    async def send(self, message: Message) -> None:
        """Take a part of the answer; its head waits for the first piece of the body."""
        kind = message["type"]
        if kind == "http.response.start":
            self._start = (message["status"], message.get("headers", ()))
            return
        assert kind == "http.response.body", kind
        if self.reply.complete:
            return
        data, more = message.get("body", b""), message.get("more_body", False)
        if not self.reply.started:
            await trio.lowlevel.checkpoint_if_cancelled()  # else it would count as begun
            if not more and not self._side.untaken.has_room(len(data)):
                await self._give_up(TOO_MUCH)  # which lets go of the body before that is said
        with self._side.untaken.hold(len(data)):
            if not self.reply.started:
                assert self._start is not None, "a body before its head"
                self.keep = self.keep and self._can_keep()
                await self._begin(*self._start, len(data), more=more)
            self.reply.count(data, more=more)
            await self._pass_body(b"" if self.reply.bodiless else data, more=more)
        if not more:
            self._over.set()

    async def _answer(self) -> None:
        """Let the app answer, unless the request is refused before."""
        if self.violation is not None:
            return
        try:
            side = self._side
            asked = self.scope(side.client, side.server, "https" if side.secure else "http")
            await side.app(asked, self.receive, self.send)
            assert self.reply.complete, "a request was left unanswered"
        except StoreUnavailable as outage:  # in the middle: half an answer cannot be taken back
            log.warning("answer cut short", detail=str(outage))
        except Exception:
            http_connection_faults_total.inc()
            log.exception("an app failed", method=self.head.method)

    async def _begin(
        self, status: int, headers: list[tuple[bytes, bytes]], size: int, *, more: bool
    ) -> None:
        """Pass on the head, framed as on a connection of our own."""
        lines = self.reply.framed(status, headers, size, more=more, keep=self.keep)
        head_of(status, lines, b"")  # raises where a header would end it
        self.keep = self.keep and (self.head.version == "2" or not self.reply.needs_close)
        dropped = _OF_HTTP_1 if self.head.version == "2" else {b"transfer-encoding"}
        kept = [pair for pair in lines if pair[0] not in dropped]
        self.reply.started = True
        await self._pass_on({"type": "http.response.start", "status": status, "headers": kept})

    async def _pass_body(self, body: bytes, *, more: bool) -> None:
        """Pass on a piece of the body bit by bit: of each hypercorn, h11 and TLS make copies."""
        for start in range(0, len(body) or 1, PIECE):
            piece = body[start : start + PIECE]
            goes_on = more or start + PIECE < len(body)
            message = {"type": "http.response.body", "body": piece, "more_body": goes_on}
            await self._pass_on(message, len(piece))

    async def _pass_on(self, message: Message, size: int = 0) -> None:
        sharing = self._side.untaken.bodies
        self._work.deadline = self._pace.begin(trio.current_time(), size, sharing)
        await self._relay(message)
        self._pace.end(trio.current_time())
        self._work.deadline = self._until

    async def _say(self, violation: Violation) -> None:
        """Answer in the place of the app."""
        self.keep = False
        answer = self._side.refuse(violation, self.head)
        described = [(b"content-type", answer.media_type), *answer.headers]
        self._start = (answer.status, described)
        await self.send({"type": "http.response.body", "body": answer.body})


class Told:
    """The body of a request over HTTP/2: what came in frames and nobody took yet.

    The peer may send what is credited to it and no more, so what is here is bounded by the window
    that it was given. Bytes that were taken are `owed` to it.
    """

    def __init__(self) -> None:
        self.complete = False
        self.owed = 0
        self._held = bytearray()
        self._all_here = False
        self._lost = False
        self._arrived = trio.Event()

    @property
    def left(self) -> int | None:
        """Nobody knows before the end: a length that was announced is checked by h2."""
        return 0 if self.complete else None

    def put(self, data: bytes) -> None:
        """Take in what came."""
        self._held += data
        self._arrived.set()

    def end(self, peer: Peer = Peer.ENDED) -> None:
        """Hear that no more will come."""
        self._all_here = peer is Peer.ENDED
        self._lost = peer is Peer.LOST
        self._arrived.set()

    def poll(self) -> bytes | None:
        """Take all that is here."""
        data = bytes(self._held)
        self._held.clear()
        self.owed += len(data)
        self.complete = self._all_here
        return data if data or self.complete else None

    async def more(self) -> bool:
        """Wait for bytes, or the end; False = the peer is gone."""
        if not (self._held or self._all_here or self._lost):
            self._arrived = trio.Event()
            await self._arrived.wait()
        return not self._lost
