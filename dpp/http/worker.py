"""hypercorn's trio worker for the public listener: the same app, for TLS or HTTP/2 without a proxy.

Each connection is let in, bounded and guarded by the listener as one of our own would be; nothing
that hypercorn raises leaves it. Over HTTP/1.1 heads and bodies are read as on a connection of our
own, and hypercorn frames and writes the answers (`relay`). HTTP/2 is spoken where TLS agreed on it,
never in the clear; WebSockets and upgrades are not.
"""

import ssl
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from dpp.http import guarded
from dpp.http.arrivals import LATE, next_head
from dpp.http.asgi import App
from dpp.http.bodies import body_of
from dpp.http.connection import REQUESTS_MAX, Dates, Refuse, Served
from dpp.http.exchange import Patience
from dpp.http.guarded import SEND_S, Guarded
from dpp.http.heads import Head, Violation
from dpp.http.http2 import Http2
from dpp.http.inbox import RECV_MAX, Inbox, Peer
from dpp.http.relay import Relay, Side, Taken, Told
from dpp.http.replies import last_words

STREAMS_MAX: Final = 100  # of one connection at a time, as hypercorn and nginx have it
NEVER: Final = 2**31  # requests after which hypercorn would cut a connection with answers in flight


def connections(tls: ssl.SSLContext | None) -> Callable[..., Served]:
    """Return what makes connections for the listener; without TLS they speak HTTP/1.1 alone."""
    guarded.check_private_names()
    return partial(WorkerConnection, config=_configuration(), tls=tls)


def _configuration() -> Config:
    config = guarded.configuration()
    config.h2_max_concurrent_streams = STREAMS_MAX
    config.keep_alive_max_requests = NEVER
    return config


class WorkerConnection(Guarded):
    """One client's connection."""

    def __init__(
        self,
        stream: trio.SocketStream,
        app: App,
        refuse: Refuse,
        *,
        patience: Patience,
        dates: Dates,
        config: Config,
        tls: ssl.SSLContext | None,
    ) -> None:
        ours: Any = (
            stream
            if tls is None
            else trio.SSLStream(stream, tls, server_side=True, https_compatible=True)
        )
        super().__init__(cast("Any", app), config, WorkerContext(None), cast("Any", {}), ours)
        self._patience = patience
        self._dates = dates
        self.idle_since: float | None = None
        self._fresh = True  # no request came on it yet
        sock = stream.socket
        self._side = Side(
            app=app,
            refuse=refuse,
            stream=self.stream,
            sending=self.send_lock,
            patience=patience,
            client=parse_socket_addr(sock.family, sock.getpeername()),
            server=parse_socket_addr(sock.family, sock.getsockname()),
            secure=tls is not None,
        )
        self._inbox = Inbox(self.stream, self._peer_ended)
        self._relay: Relay | None = None  # over HTTP/1.1
        self._idle = trio.CancelScope()  # around what drain need not wait for
        self._frames: Http2 | None = None
        self._draining = False
        self._mute = False

    def drain(self) -> None:
        """Finish what is being answered, then close; an idle connection closes now."""
        self._draining, self.idle_since = True, None
        if self._relay is not None:
            self._relay.keep = False
        if self._frames is None or not self._frames.drain():
            self._idle.cancel(reason="drain")

    async def run(self) -> None:
        """Serve this connection to its end; the stream is closed afterwards in any case."""
        try:
            async with TaskGroup() as tasks:
                if await self._agreed() == "h2":
                    await self._serve_frames(tasks)
                else:
                    await self._serve_requests(tasks)
                with trio.move_on_after(SEND_S):
                    await self._close()  # which ends `fill`
        finally:
            with trio.move_on_after(SEND_S, shield=True):
                await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Send what hypercorn wrote, but not for ever, and close nothing in its tasks."""
        if isinstance(event, RawData):
            if self._mute or (self._relay is not None and self._relay.mute):
                return
            if self._frames is not None:
                self._frames.explain(len(event.data) // 2)  # half: else pings would explain pings
            async with self.send_lock:
                sent = await self.send_bounded(event.data)
            if not sent:
                self._peer_ended(Peer.LOST)
        elif isinstance(event, Closed):
            self._idle.cancel(reason="over")
        elif isinstance(event, Updated):  # of HTTP/2 alone: ours waits for the relay
            self._wait_idle() if event.idle else self._work_on()

    def _wait_idle(self) -> None:
        """Bound the wait for the first request, and a drain's; who let us in bounds the others."""
        now = trio.current_time()
        if self._fresh or self._draining:
            wait_s = self._patience.head_s if self._fresh else self._patience.idle_s
            self.idle_since, self._idle.deadline = None, now + wait_s
        else:
            self.idle_since = now

    def _work_on(self) -> None:
        """Note that a request has come."""
        self._fresh, self.idle_since, self._idle.deadline = False, None, inf

    async def _agreed(self) -> str | None:
        """Shake hands; return the protocol that TLS agreed on."""
        if not self._side.secure:
            return None
        with trio.move_on_after(self._patience.head_s) as limit:
            await self.stream.do_handshake()
        if limit.cancelled_caught:
            raise trio.BrokenResourceError("no handshake in time")
        agreed: str | None = self.stream.selected_alpn_protocol()
        return agreed

    def _peer_ended(self, peer: Peer) -> None:
        if self._relay is not None:
            self._relay.peer_ended(peer)
        elif peer is Peer.LOST:
            self._idle.cancel(reason="the peer is gone")

    # ── HTTP/1.1 ─────────────────────────────────────────────────────────────────────────────────

    async def _serve_requests(self, tasks: TaskGroup) -> None:
        """Serve request after request."""
        tasks.spawn(self._inbox.fill)
        for served in range(1, REQUESTS_MAX + 1):
            head = await self._next_head()
            if head is None:
                return
            if isinstance(head, Violation):
                out = last_words(self._side.refuse(head, None), "", self._dates.now())
                await self.send_bounded(out)
                break
            relay = await self._serve(head, tasks, last=served == REQUESTS_MAX)
            if not relay.reply.complete:
                return  # what is cut must look cut
            if not relay.keep:
                break
            if not relay.body.complete and not await relay.finish_body():
                break
        await self._linger()

    async def _next_head(self) -> Head | Violation | None:
        """Wait for a request; None = there will be none."""
        inbox = self._inbox
        if not inbox.held:
            self._wait_idle()
            with self._idle:
                await inbox.more()
            self._work_on()
            self._idle = trio.CancelScope()
            if not inbox.held:
                return None
        with trio.move_on_after(self._patience.head_s):
            return await next_head(inbox)
        return LATE

    async def _serve(self, head: Head, tasks: TaskGroup, *, last: bool) -> Relay:
        """Let hypercorn answer one request."""
        relay = Relay(self._side, head, body_of(head, self._inbox), self._inbox)
        relay.keep = head.keep_alive and not last and not self._draining
        self._relay = relay
        if self._inbox.peer is not Peer.OPEN:
            relay.peer_ended(self._inbox.peer)
        protocol = H11Protocol(
            cast("Any", relay),  # hypercorn spells out every kind of message
            self.config,
            self.context,
            tasks,
            ConnectionState(self.state),
            self._side.secure,
            self._side.client,
            self._side.server,
            self.protocol_send,
        )
        # Nothing of the peer's: only what decides how the answer is framed.
        method = b"HEAD" if head.method == "HEAD" else b"GET"
        bare = b"%b / HTTP/%b\r\nhost: dpp\r\n\r\n" % (method, head.version.encode("ascii"))
        await protocol.handle(RawData(bare))
        await relay.ended.wait()
        self._mute = relay.mute
        self._relay = None
        return relay

    async def _linger(self) -> None:
        """Let the peer read our last words: closing over unread bytes resets."""
        if self._inbox.peer is not Peer.OPEN:
            return
        with trio.move_on_after(self._patience.linger_s):
            if not self._side.secure:  # TLS has no half of a connection to close
                await self.stream.send_eof()
            self._inbox.clear()
            while await self._inbox.more():
                self._inbox.clear()

    # ── HTTP/2 ───────────────────────────────────────────────────────────────────────────────────

    async def _serve_frames(self, tasks: TaskGroup) -> None:
        """Hand what comes to hypercorn, until the peer, a wait or the drain ends it."""

        def make(head: Head, violation: Violation | None, body: Told, taken: Taken) -> Relay:
            return Relay(self._side, head, body, body, violation=violation, taken=taken)

        protocol = self._frames = Http2(
            make,
            self.config,
            self.context,
            tasks,
            ConnectionState(self.state),
            self._side.secure,
            self._side.client,
            self._side.server,
            self.protocol_send,
        )
        await protocol.initiate()
        self._wait_idle()
        with self._idle:
            while data := await self.stream.receive_some(RECV_MAX):
                await protocol.take(bytes(data))
        await protocol.leave()
