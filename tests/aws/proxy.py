"""A proxy that breaks what goes through it: before a stand-in for AWS, which decides all else.

Faults are made one request after another: what a test planned, then what its dice say. A request
goes on only while no other does: the stand-in looks whether a key is free and then takes it, and S3
does both at once. Everything that went through is remembered.
"""

from __future__ import annotations

import random
import re
import socket
import struct
from collections import Counter, deque
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import h11
import trio
from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CHUNK = 1 << 18
LATE_S = (0.5, 2.5)  # beyond what readiness waits for an answer, within what everything else does
LAST_MODIFIED = re.compile(rb"<Key>([^<]*)</Key><LastModified>([^<]*)</LastModified>")


class Fault(Enum):
    """What can become of a request."""

    SLOW_DOWN = auto()  # answered 503, nothing done
    INTERNAL = auto()  # answered 500, done
    REFUSED = auto()  # cut before anything was done
    REPLY_LOST = auto()  # done, and cut before the answer
    CUT = auto()  # done, and cut in the middle of the answer
    WRONG = auto()  # done, and a byte of the answer's body is another
    TWICE = auto()  # done twice, answered for the first
    SILENT = auto()  # done, and never answered
    FORBIDDEN = auto()  # answered 403, nothing done
    GARBLED = auto()  # a byte of the request is another: what has a digest is refused for it
    LATE = auto()  # done after a while: what was asked later overtakes it


# Faults that the proxy answers by itself.
OWN = {
    Fault.SLOW_DOWN: (503, "SlowDown"),
    Fault.FORBIDDEN: (403, "AccessDenied"),
    Fault.GARBLED: (
        400,
        "BadDigest",
    ),  # S3 compares what came with its digest; the stand-in does not
}


@frozen
class Request:
    """A request as it came."""

    method: str
    target: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)

    @property
    def key(self) -> str:
        """The object that it asks for."""
        return unquote(urlsplit(self.target).path).split("/", 2)[-1]


@define(eq=False)
class Proxy:
    """The proxy: `plan` has the next faults, `rate` the share of broken ones after them."""

    upstream: int
    dice: random.Random
    port: int = 0
    plan: deque[Fault | None] = field(factory=deque)
    rate: float = 0.0
    faults: tuple[Fault, ...] = ()
    applies: Callable[[Request], bool] = lambda _request: True
    away: bool = False  # it refuses all
    remembers: bool = True  # all that it saw, bodies and all; not where it sees much
    ages: dict[str, float] = field(factory=dict)  # key → seconds that its object is older
    seen: list[Request] = field(factory=list)
    made: Counter[Fault] = field(factory=Counter)
    refused: int = 0  # while it was away
    _turn: trio.CapacityLimiter = field(factory=partial(trio.CapacityLimiter, 1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def storm(self, rate: float, *faults: Fault) -> None:
        """From now on break this share of the requests, by these faults."""
        self.rate, self.faults = rate, faults

    def put_names(self) -> list[str]:
        """Return the keys that were put, in order."""
        return [one.key for one in self.seen if one.method == "PUT"]

    async def serve(self, stream: trio.SocketStream) -> None:
        """Take one request, and close."""
        async with stream:
            try:
                request = await receive(stream)
                if request is not None:
                    await self._answer(stream, request)
            except (trio.BrokenResourceError, h11.RemoteProtocolError):
                return

    async def _answer(self, stream: trio.SocketStream, request: Request) -> None:
        fault = self._next(request)
        if fault is not None:
            self.made[fault] += 1
        self.refused += self.away
        if self.away or fault is Fault.REFUSED:
            reset(stream)
            return
        if fault in OWN and (request.body or fault is not Fault.GARBLED):
            status, code = OWN[fault]
            await stream.send_all(answer(status, error_of(code)))
            return
        if fault is Fault.LATE:
            await trio.sleep(self.dice.uniform(*LATE_S))
        async with self._turn:
            reply = await self._forward(request)
            if fault is Fault.TWICE:
                await self._forward(request)
        await self._give(stream, self._aged(reply), fault)

    def _next(self, request: Request) -> Fault | None:
        if self.remembers:
            self.seen.append(request)
        if not self.applies(request):
            return None
        if self.plan:
            return self.plan.popleft()
        return self.dice.choice(self.faults) if self.dice.random() < self.rate else None

    async def _give(self, stream: trio.SocketStream, reply: bytes, fault: Fault | None) -> None:
        head, blank, body = reply.partition(b"\r\n\r\n")
        match fault:
            case Fault.INTERNAL:
                await stream.send_all(answer(500, error_of("InternalError")))
            case Fault.REPLY_LOST:
                reset(stream)
            case Fault.SILENT:
                await trio.sleep_forever()
            case Fault.CUT:
                await stream.send_all(head + blank + body[: len(body) // 2])
                reset(stream)
            case Fault.WRONG if body and b" 2" in head[:12]:
                at = self.dice.randrange(len(body))
                wrong = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
                await stream.send_all(head + blank + wrong)
            case _:
                await stream.send_all(reply)

    async def _forward(self, request: Request) -> bytes:
        lines = [f"{request.method} {request.target} HTTP/1.1"]
        skip = {"connection", "expect", "transfer-encoding", "content-length"}
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name not in skip]
        lines += ["connection: close", f"content-length: {len(request.body)}", "", ""]
        async with await trio.open_tcp_stream("127.0.0.1", self.upstream) as upstream:
            await upstream.send_all("\r\n".join(lines).encode("latin-1"))
            await upstream.send_all(request.body)
            parts = [part async for part in upstream]
        return b"".join(parts)

    def _aged(self, reply: bytes) -> bytes:
        """Let a listing say that some of the objects are older."""
        if not self.ages or b"<ListBucketResult" not in reply:
            return reply

        def older(found: re.Match[bytes]) -> bytes:
            at = datetime.fromisoformat(found[2].decode())
            at -= timedelta(seconds=self.ages.get(unquote(found[1].decode()), 0.0))
            text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z").encode()
            assert len(text) == len(found[2])
            return found[0].replace(found[2], text)

        return LAST_MODIFIED.sub(older, reply)


async def receive(stream: trio.SocketStream) -> Request | None:
    """Read one request, body and all; None: the peer went away."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 16)
    head: h11.Request | None = None
    parts: list[bytes] = []
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                await stream.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                proceed = h11.InformationalResponse(status_code=100, headers=[])
                connection.send(proceed)
            connection.receive_data(await stream.receive_some(CHUNK))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return None
    assert head is not None
    headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode(), head.target.decode(), b"".join(parts), headers)


def error_of(code: str) -> bytes:
    """Return the body of an error of S3."""
    return (
        f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>made</Message></Error>'.encode()
    )


def answer(status: int, body: bytes) -> bytes:
    """Return an answer of the proxy's own."""
    head = f"HTTP/1.1 {status} Broken\r\ncontent-type: application/xml\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def reset(stream: trio.SocketStream) -> None:
    """Cut the connection hard: the peer reads no end, but an error."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@asynccontextmanager
async def open_proxy(upstream: int, seed: int, at_once: int = 1) -> AsyncIterator[Proxy]:
    """Run a proxy before the stand-in on this port; a long poll is not to hold up the others."""
    print(f"proxy seed {seed}")  # noqa: T201 - pytest shows it where a test fails
    proxy = Proxy(upstream, random.Random(seed), turn=trio.CapacityLimiter(at_once))
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        proxy.port = listeners[0].socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel(reason="the test is over")
