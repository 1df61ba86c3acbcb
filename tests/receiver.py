"""A receiver of webhooks that can be told to misbehave: a real HTTP/1.1 server, over TLS or not.

It reads each request whole and remembers it with the time by its own clock; then it does what is
next in its script, and in the end what it does usually. Certificates are those of
`tests/certificates`, made to last: `authority.pem` has signed the one for hooks.example.com,
other.example.com, localhost and 127.0.0.1; `self_signed.pem` is another one for the first of them.
"""

from __future__ import annotations

import gzip
import json
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import define, field, frozen
from standardwebhooks import Webhook

CERTIFICATES = Path(__file__).parent / "certificates"
AUTHORITY = CERTIFICATES / "authority.pem"
HEAD_MAX = 1 << 16
PIECE = b"x" * (1 << 16)
GIB = 1 << 30
BOMB = gzip.compress(bytes(32 << 20), 1)

Behave = Callable[["Connection"], Awaitable[None]]


@frozen
class Received:
    """One request as it came."""

    at: float  # time.time() when all of it was there
    target: str
    headers: dict[str, str]
    body: bytes
    sni: str | None

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    def verify(self, secret: str) -> None:
        """Check the signature as a receiver does; raises where it is not by this secret."""
        Webhook(secret).verify(self.body, self.headers)


@define
class Connection:
    """The receiver's end of a connection, once a request was read."""

    stream: trio.abc.Stream
    sent: int = 0  # bytes that were taken by the other side

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)
        self.sent += len(data)

    async def answer(
        self, status: int, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Answer whole."""
        lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join((*lines, "", "")).encode() + body)


@define(eq=False)
class Receiver:
    """A receiver that runs."""

    port: int
    scheme: str
    usually: Behave
    script: deque[Behave] = field(factory=deque)
    received: list[Received] = field(factory=list)
    connections: int = 0
    sent: list[int] = field(factory=list)  # bytes of each answer that were taken
    _news: trio.Event = field(factory=trio.Event)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def ids(self) -> list[str]:
        return [one.id for one in self.received]

    async def until(self, count: int, within_s: float = 30.0) -> list[Received]:
        """Wait until so many requests have come; returns all."""
        with trio.fail_after(within_s):
            await trio.lowlevel.checkpoint()
            while len(self.received) < count:
                await self._news.wait()
        return self.received

    async def until_over(self, count: int, within_s: float = 30.0) -> None:
        """Wait until so many connections are over."""
        with trio.fail_after(within_s):
            await trio.lowlevel.checkpoint()
            while len(self.sent) < count:
                await self._news.wait()

    async def _serve(self, stream: trio.abc.Stream, sni: list[str | None]) -> None:
        self.connections += 1
        connection = Connection(stream)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
            async with stream:
                request = await read(stream)
                if request is not None:
                    self.received.append(Received(now(), *request, sni[-1] if sni else None))
                    self._tell()
                    await (self.script.popleft() if self.script else self.usually)(connection)
        self.sent.append(connection.sent)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


async def read(stream: trio.abc.Stream) -> tuple[str, dict[str, str], bytes] | None:
    """Read one request: target, headers, body; None = it never came."""
    data = b""
    while b"\r\n\r\n" not in data:
        assert len(data) < HEAD_MAX
        piece = await stream.receive_some(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    while len(body) < int(headers.get("content-length", 0)):
        piece = await stream.receive_some(65536)
        if not piece:
            return None
        body += piece
    return first.split(" ")[1], headers, body


def now() -> float:
    """Return the time by this machine's clock, to be compared with the database's on it."""
    return time.time()  # noqa: TID251 - nothing waits for it


# ── what it may do ───────────────────────────────────────────────────────────────────────────────


def say(status: int, body: bytes = b"", *headers: tuple[str, str]) -> Behave:
    """Answer this."""

    async def behave(connection: Connection) -> None:
        await connection.answer(status, body, headers)

    return behave


OK = say(204)


async def lose(connection: Connection) -> None:
    """Take the request and never say so: the acknowledgement is lost."""
    await connection.stream.aclose()


async def hang(_: Connection) -> None:
    """Say nothing, for as long as the other side waits."""
    await trio.sleep_forever()


def slow(delay_s: float, then: Behave = OK) -> Behave:
    """Answer after a while."""

    async def behave(connection: Connection) -> None:
        await trio.sleep(delay_s)
        await then(connection)

    return behave


async def status_alone(connection: Connection) -> None:
    """Say yes, and nothing more, as long as the other side stays."""
    await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    await trio.sleep_forever()


async def dribble(connection: Connection) -> None:
    """Say yes, and then go on for ever, a byte at a time."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        await connection.send(b"x")
        await trio.sleep(0.01)


async def dribble_head(connection: Connection) -> None:
    """Never come to the end of the head."""
    await connection.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await connection.send(b"X-More: y\r\n")
        await trio.sleep(0.01)


async def flood(connection: Connection) -> None:
    """Say yes, and then send 10 GiB."""
    await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (10 * GIB))
    for _ in range(10 * GIB // len(PIECE)):
        await connection.send(PIECE)


async def flood_head(connection: Connection) -> None:
    """Send interim answers, and never a final one."""
    while True:
        await connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000)


async def bomb(connection: Connection) -> None:
    """Send a little that is a lot once it is unpacked."""
    await connection.answer(200, BOMB, [("Content-Encoding", "gzip")])


async def babble(connection: Connection) -> None:
    """Speak another protocol."""
    await connection.send(b"220 mail.example.com ESMTP\r\n")


# ── running it ───────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def receiving(
    usually: Behave = OK, *, certificate: str | None = None, port: int = 0
) -> AsyncIterator[Receiver]:
    """Run a receiver on 127.0.0.1; with a certificate, over TLS."""
    sni: list[str | None] = []
    context = None if certificate is None else server_context(CERTIFICATES / certificate, sni)
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    bound: int = listeners[0].socket.getsockname()[1]
    receiver = Receiver(bound, "http" if context is None else "https", usually)

    async def serve(stream: trio.SocketStream) -> None:
        wrapped: trio.abc.Stream = stream
        if context is not None:
            wrapped = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await receiver._serve(wrapped, sni)

    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, serve, listeners))
        yield receiver
        nursery.cancel_scope.cancel()


def server_context(certificate: Path, sni: list[str | None]) -> ssl.SSLContext:
    """Return a server's context that writes down which name it was asked for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    def note(_socket: object, name: str | None, _context: object) -> None:
        sni.append(name)

    context.sni_callback = note
    return context


def trusting() -> ssl.SSLContext:
    """Return a client's context that trusts the authority of these tests and no other."""
    return ssl.create_default_context(cafile=str(AUTHORITY))
