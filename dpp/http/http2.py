"""HTTP/2 on one connection, by hypercorn and h2, with what they leave open closed.

hypercorn 0.18 reads requests with `decode("ascii")`, takes DATA for streams that it has forgotten,
keeps a tree of priorities that a peer can fill, and credits a body before anybody has taken it. So
each request is read and checked here (`frames`), hypercorn is told no more of it than how its
answer is framed, and a body is credited as the app takes it.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

import trio
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PriorityUpdated,
    RequestReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import ConnectionState

from dpp.http import frames
from dpp.http.asgi import Message, Receive, Scope, Send
from dpp.http.heads import Head, Violation
from dpp.http.inbox import Peer
from dpp.http.relay import Relay, Taken, Told

# Bytes of frames beyond what requests, bodies and answers explain: pings, settings, priorities.
CHATTER_MAX: Final = 64 * 1024
EXPLAINED: Final = 16 * 1024  # by a request, with all that goes with it
SLICE: Final = 2 * 1024  # that is read before others have their turn: up to 230 frames
RESETS_FREE: Final = 100  # streams that a peer may open and reset beyond those it let be answered
_KEY: Final = "stream_id"  # in the state that hypercorn hands to its app

MakeRelay: TypeAlias = Callable[[Head, Violation | None, Told, Taken], Relay]


class Http2(H2Protocol):
    """One connection's frames. `make_relay` makes what answers a request."""

    def __init__(self, make_relay: MakeRelay, *args: Any, **more: Any) -> None:
        super().__init__(self._answer, *args, **more)  # type: ignore[arg-type]  # an ASGI app
        self._make_relay = make_relay
        self._relays: dict[int, tuple[Relay, Told]] = {}
        self._resets = 0
        self._chatter = 0
        self._draining = False

    def drain(self) -> bool:
        """Take no more streams, and end with the last; False = there is none.

        hypercorn's own way would cut the last answer short of its end.
        """
        self._draining = True
        return not self._over

    @property
    def _over(self) -> bool:
        return not self.streams and not self.stream_buffers

    async def leave(self) -> None:
        """Let go of all streams, and say good-bye."""
        await self.handle(Closed())
        with suppress(ProtocolError):
            self.connection.close_connection()
        await self._flush()

    async def take(self, data: bytes) -> None:
        """Read what came, a bit at a time; who only chatters is sent away."""
        for start in range(0, len(data), SLICE):
            piece = data[start : start + SLICE]
            self._chatter += len(piece)
            await self.handle(RawData(piece))
            if self._chatter > CHATTER_MAX:
                await self._send_away()
                return
            await trio.lowlevel.checkpoint()

    def explain(self, size: int) -> None:
        """Count so many bytes as no chatter; none are saved up."""
        self._chatter = max(0, self._chatter - size)

    async def _send_away(self) -> None:
        self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
        await self._flush()
        await self.send(Closed())

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *_: Any) -> None:
        """Be the app that hypercorn calls for a stream."""
        stream_id = scope["state"][_KEY]
        served = self._relays.get(stream_id)
        if served is not None:  # else the peer has reset it before its task began
            await served[0](scope, receive, partial(self._pass_on, stream_id, send))

    async def _pass_on(self, stream_id: int, send: Send, message: Message) -> None:
        """Hand over a part of an answer; its body waits until the peer's window took what was.

        hypercorn's own limit lets the next piece in whenever it found that nothing could go out.
        """
        await send(message)
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and message.get("body"):
            await buffer.drain()

    async def _handle_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, RequestReceived):
                await self._begin(event)
            elif isinstance(event, DataReceived):
                self._take(event)
            elif isinstance(event, StreamEnded):
                if event.stream_id in self._relays:
                    self._relays[event.stream_id][1].end()
            elif isinstance(event, StreamReset):
                await self._reset(event)
            elif not isinstance(event, PriorityUpdated):  # RFC 9113, 5.3.2: they may be ignored
                await super()._handle_events([event])
        await self._flush()

    async def _begin(self, event: RequestReceived) -> None:
        """Let a request be answered, as far as it is one."""
        read = frames.read(event.headers)
        if read is None:
            self.connection.reset_stream(event.stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        if self._draining:  # nothing was done: it may be sent again elsewhere (RFC 9113, 8.7)
            self.connection.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self.explain(EXPLAINED)
        body = Told()
        credit = partial(self._credit, event.stream_id, body)
        self._relays[event.stream_id] = self._make_relay(*read, body, credit), body
        self.connection_state = ConnectionState({_KEY: event.stream_id})
        bare = [
            (b":method", b"HEAD" if read[0].method == "HEAD" else b"GET"),
            (b":path", b"/"),
        ]
        await super()._handle_events([RequestReceived(stream_id=event.stream_id, headers=bare)])

    def _take(self, event: DataReceived) -> None:
        """Keep what belongs to a body; padding, and what nobody waits for, is credited at once."""
        served, owed = self._relays.get(event.stream_id), event.flow_controlled_length
        self.explain(owed)
        if served is not None and not served[0].reply.complete:
            served[1].put(event.data)
            owed -= len(event.data)
        with suppress(ProtocolError):  # its connection is over
            self.connection.acknowledge_received_data(owed, event.stream_id)

    async def _reset(self, event: StreamReset) -> None:
        """Let a request go; who only opens and resets is sent away (CVE-2023-44487)."""
        self._resets += 1
        if self._resets > RESETS_FREE + self.keep_alive_requests // 2:
            await self._send_away()
            return
        await super()._handle_events([event])

    async def _credit(self, stream_id: int, body: Told) -> None:
        """Let the peer send as much more as was taken."""
        owed, body.owed = body.owed, 0
        if owed:
            with suppress(ProtocolError):
                self.connection.acknowledge_received_data(owed, stream_id)
            await self._flush()

    async def _send_data(self, stream_id: int) -> None:
        await super()._send_data(stream_id)
        if self._draining and self._over:
            await self.send(Closed())

    async def _close_stream(self, stream_id: int) -> None:
        """Forget a stream, and say so to the peer where it has no whole answer."""
        served = self._relays.pop(stream_id, None)
        if served is not None:
            relay, body = served
            body.end(Peer.LOST)
            body.poll()
            await self._credit(stream_id, body)
            if not relay.reply.complete:
                relay.peer_ended(Peer.LOST)
        await super()._close_stream(stream_id)
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and not buffer.complete:
            with suppress(ProtocolError):
                self.connection.reset_stream(stream_id, ErrorCodes.CANCEL)
            await buffer.close()
            await self._window_updated(stream_id)  # which takes it from hypercorn's own lists
            with suppress(ProtocolError):
                await self._flush()
        if not self.closed and not self.streams:  # hypercorn does not say so of one that was reset
            await self.send(Updated(idle=True))
