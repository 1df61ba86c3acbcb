"""A real listener around any ASGI app, and a client that sends exactly the bytes it is given."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
from attrs import define, field, frozen

from dpp.http import listener, problems
from dpp.http.connection import Connection
from dpp.http.exchange import Patience

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dpp.http.answers import Answer
    from dpp.http.asgi import App, Receive, Scope, Send
    from dpp.http.connection import Refuse, Served
    from dpp.http.heads import Head, Violation

PATIENT = Patience(
    idle_s=20, head_s=20, body_s=20, send_s=20, half_close_s=20, unread_s=20, linger_s=0.2
)


def refuse(violation: Violation, _head: Head | None) -> Answer:
    """Answer what never reaches an app, undressed."""
    problem = problems.Problem(violation.problem, violation.detail)
    return problems.render(problem, instance="", request_id="")


@frozen
class Reply:
    """One answer off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    lines: list[str] = field(factory=list)


@define
class Wire:
    """A client's end of a connection."""

    stream: trio.SocketStream
    held: bytearray = field(factory=bytearray)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def ask(self, data: bytes, method: str = "GET") -> Reply:
        """Send, and read one answer."""
        await self.send(data)
        return await self.reply(method)

    async def reply(self, method: str = "GET") -> Reply:
        """Read one answer: framed by its length, by chunks, or by the end of the connection."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.split("\r\n")[:-2]
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        code = int(status.split(" ")[1])
        return Reply(code, headers, await self._body(code, method, headers), lines)

    async def until(self, mark: bytes) -> bytes:
        """Read up to and with a mark."""
        while (found := self.held.find(mark)) < 0:
            await self._more()
        return await self.exactly(found + len(mark))

    async def rest(self) -> bytes:
        """Read to the end of the connection."""
        while data := await self.stream.receive_some(65536):
            self.held += data
        return await self.exactly(len(self.held))

    async def ended(self) -> bool:
        """Wait for the other side to close; False = it said something first."""
        try:
            return not self.held and not await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return True

    async def _body(self, code: int, method: str, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or code in (204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            body = bytearray()
            while size := int(await self.until(b"\r\n"), 16):
                body += await self.exactly(size)
                await self.exactly(2)
            await self.exactly(2)
            return bytes(body)
        if "content-length" in headers:
            return await self.exactly(int(headers["content-length"]))
        return await self.rest()

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self.held) < size:
            await self._more()
        found = bytes(self.held[:size])
        del self.held[:size]
        return found

    async def _more(self) -> None:
        data = await self.stream.receive_some(65536)
        assert data, f"the connection ended after {self.held!r}"
        self.held += data


@frozen
class Server:
    """A listener that runs."""

    address: tuple[str, int]
    draining: trio.Event
    reception: listener.Reception

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        """Open a connection."""
        async with await trio.open_tcp_stream(*self.address) as stream:
            yield Wire(stream)

    async def ask(self, data: bytes, method: str = "GET") -> Reply:
        """Ask over a connection of its own."""
        async with self.connect() as wire:
            return await wire.ask(data, method)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)


@asynccontextmanager
async def listening(
    app: App,
    *,
    refusing: Refuse = refuse,
    connections_max: int = 100,
    patience: Patience = PATIENT,
    make: Callable[..., Served] = Connection,
    secure: bool = False,
) -> AsyncIterator[Server]:
    """Serve an app on a free port for the length of the block; leaving it drains."""
    reception = listener.Reception(
        app,
        refusing,
        connections_max=connections_max,
        patience=patience,
        make=make,
        secure=secure,
    )
    draining = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as handlers:
            sockets = listener.bind("127.0.0.1", 0)
            serve = partial(listener.serve, reception, sockets, handlers, draining)
            addresses = await handlers.start(serve)
            yield Server(addresses[0], draining, reception)
            draining.set()


async def read_all(receive: Receive) -> bytes:
    """Read a whole body as an app does."""
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def answer(
    send: Send, body: bytes = b"ok", status: int = 200, *, more: bool = False, **headers: str
) -> None:
    """Answer as an app does: whole, or with `more` to come."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer method, path and body."""
    body = await read_all(receive)
    line = f"{scope['method']} {scope['path']} ".encode()
    await answer(send, line + body, content_type="text/plain")


def get(path: str = "/", *lines: str, version: str = "1.1") -> bytes:
    """Return a GET request."""
    return request("GET", path, *lines, version=version)


def request(method: str, path: str, *lines: str, body: bytes = b"", version: str = "1.1") -> bytes:
    """Return a request; its length is announced where it has a body."""
    length = (f"Content-Length: {len(body)}",) if body else ()
    head = (f"{method} {path} HTTP/{version}", "Host: dpp", *lines, *length)
    return "\r\n".join((*head, "", "")).encode("latin-1") + body
