"""One request and its answer, as an ASGI app sees them: `scope`, `receive`, `send`.

The app runs inside `work`, the connection's one cancel scope. It is cancelled when the peer is
gone, breaks HTTP in its body, or takes too long over a body or an answer; whoever the app talks to
(an actor, the store) is never cancelled with it. A peer that only stopped sending may still read:
the app has `half_close_s` to answer it.
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import Final, TypeAlias

import trio
from attrs import frozen

from dpp.http.answers import Header
from dpp.http.asgi import Address, Message
from dpp.http.bodies import Body, Source, next_piece
from dpp.http.heads import Head, Violation
from dpp.http.inbox import Peer
from dpp.http.pace import Pace
from dpp.http.replies import Reply

# Takes what it can of these bytes at once, and says how many; raises BrokenResourceError.
SendNow: TypeAlias = Callable[[memoryview], int]

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
WRITE_MAX: Final = 256 * 1024  # of an answer, given to the kernel at a time: each has `send_s`


@frozen(kw_only=True)
class Patience:
    """How long a connection waits for its peer, and for what. Tests shorten them."""

    # Between requests: longer than whoever asks keeps a connection that he may use at any moment
    # (nginx and load balancers 60 s, Python's clients 5 s), else his request meets our close. Where
    # all places are taken, the one that idles longest makes room.
    idle_s: float = 75.0
    head_s: float = 5.0  # a head is one packet; the slowest honest link sends 16 KiB in 2 s
    body_s: float = 15.0  # a batch of 16 MiB at 10 Mbit/s
    send_s: float = 10.0  # for each write: a peer that reads nothing for so long is gone
    # Bytes a second, on average over an answer: a page of 1 MiB in 26 s, a batch's 16 MiB in under
    # five minutes. It is a sixteenth of what `body_s` asks of who sends; see `pace`.
    send_rate: float = 64 * 1024
    half_close_s: float = 1.0  # long enough for a submit; a waiter that only half-closes is let go
    unread_s: float = 1.0  # to take in the rest of a body that nobody asked for
    linger_s: float = (
        1.0  # for the peer to read our last words before the kernel resets the connection
    )
    unread_max: int = 64 * 1024  # a longer rest costs more to read than a new connection


DISCONNECT: Final = {"type": "http.disconnect"}
TOO_SLOW: Final = Violation("request-timeout", "the body did not arrive in time")


def nothing_now(_: memoryview) -> int:
    """Take nothing at once: the stream is asked."""
    return 0


class Exchange:
    """A request being answered. `send_now`: what takes bytes without a wait, before the stream."""

    def __init__(
        self,
        head: Head,
        body: Body,
        source: Source,
        stream: trio.abc.SendStream,
        work: trio.CancelScope,
        patience: Patience,
        date: bytes,
        send_now: SendNow = nothing_now,
    ) -> None:
        self.head = head
        self.body = body
        self.reply = Reply(head.method, head.version)
        self.violation: Violation | None = None
        self.keep = head.keep_alive
        self._source = source
        self._stream = stream
        self._send_now = send_now
        self._work = work
        self._patience = patience
        self._pace = Pace(patience.send_s, patience.send_rate)
        self._date = date
        self._start: tuple[int, list[Header]] | None = None
        self._over = trio.Event()
        self._body_by = trio.current_time() + patience.body_s
        self._continued = not head.expects_continue
        # An app may answer in one task while it reads in another, which then says 100 Continue.
        self._sending = trio.Lock() if head.expects_continue else None
        self._until = inf  # when the app must have answered
        self._body_begun = False  # the app has asked for it
        self._body_told = False  # the app knows that the body is complete

    def scope(
        self, client: Address | None, server: Address | None, scheme: str = "http"
    ) -> Message:
        """Return the ASGI scope of this request."""
        head = self.head
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": head.version,
            "method": head.method,
            "scheme": scheme,
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": client,
            "server": server,
            "extensions": {},
        }

    def peer_ended(self, peer: Peer) -> None:
        """Let the app go: at once where nobody can read its answer, else after a moment."""
        if peer is Peer.LOST:
            self._work.cancel(reason="the peer is gone")
        else:
            self._until = trio.current_time() + self._patience.half_close_s
            self._work.deadline = min(self._work.deadline, self._until)

    async def receive(self) -> Message:
        """Return the next piece of the body; after its end, wait until nobody is to be answered."""
        if self._body_told:
            await self._over.wait()
            return DISCONNECT
        if self._body_begun:  # else a peer that sends fast enough would hold up all others
            await trio.lowlevel.checkpoint()
        self._body_begun = True
        piece = self.body.poll()
        if piece is None:
            piece = await self._wait_for_piece()
        if isinstance(piece, Violation):
            await self._give_up(piece)
            return DISCONNECT
        self._body_told = self.body.complete
        return {"type": "http.request", "body": piece, "more_body": not self.body.complete}

    async def send(self, message: Message) -> None:
        """Take a part of the answer; the head goes out with the first piece of the body."""
        kind = message["type"]
        if kind == "http.response.start":
            self._start = (message["status"], message.get("headers", ()))
            return
        assert kind == "http.response.body", kind
        if self.reply.complete:
            return  # an app that goes on after its end is told nothing: ASGI
        data, more = message.get("body", b""), message.get("more_body", False)
        parts: tuple[bytes, ...]
        if self.reply.started:
            parts = (self.reply.piece(data, more=more),)
        else:
            assert self._start is not None, "a body before its head"
            await trio.lowlevel.checkpoint_if_cancelled()  # else it would count as begun
            self.keep = self.keep and self._can_keep()
            status, headers = self._start
            parts = self.reply.start(status, headers, self._date, data, more=more, keep=self.keep)
            self.keep = self.keep and not self.reply.needs_close
        if self._sending is None:
            await self._write_all(parts)
        else:
            async with self._sending:
                await self._write_all(parts)
        if more:  # else a peer that takes fast enough would hold up all others
            await trio.lowlevel.checkpoint()
        else:
            self._over.set()

    async def finish_body(self) -> bool:
        """Take in what the app left unread, to come to the next request; False = it failed."""
        assert not self.body.complete
        with trio.move_on_after(self._patience.unread_s):
            while True:
                piece = await next_piece(self.body, self._source)
                if isinstance(piece, Violation) or self.body.complete:
                    break
        return self.body.complete

    def _can_keep(self) -> bool:
        """Say whether the rest of the body is worth reading: asked before the head goes out."""
        if self.body.complete:
            return True
        left = self.body.left
        return self._continued and left is not None and left <= self._patience.unread_max

    async def _wait_for_piece(self) -> bytes | Violation:
        if not self._continued:
            self._continued = True
            await self._say_continue()
        with trio.move_on_at(self._body_by):
            return await next_piece(self.body, self._source)
        return TOO_SLOW

    async def _say_continue(self) -> None:
        """Ask for the body, unless the answer has begun: then nobody waits for it."""
        assert self._sending is not None
        async with self._sending:
            if not self.reply.started:
                await self._write(CONTINUE)

    async def _give_up(self, violation: Violation | None) -> None:
        """End the app's work: there is nothing more that it could do for this peer."""
        self.violation = self.violation or violation
        self.keep = False
        self._work.cancel(reason="the peer broke off")
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _write_all(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            await self._write(part)

    async def _write(self, out: bytes) -> None:
        view = memoryview(out)
        for start in range(0, len(out), WRITE_MAX):
            piece = view[start : start + WRITE_MAX]
            until = self._pace.begin(trio.current_time(), len(piece))
            try:
                left = piece[self._send_now(piece) :]
                if left:
                    await self._send_by(until, left)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._give_up(None)
            self._pace.end(trio.current_time())

    async def _send_by(self, until: float, data: memoryview) -> None:
        """Wait until the peer has taken these bytes; cancelled where it takes too long."""
        self._work.deadline = until
        await self._stream.send_all(data)
        self._work.deadline = self._until
