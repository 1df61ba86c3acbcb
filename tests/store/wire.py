"""A wire to PostgreSQL that can be cut where it hurts: at COMMIT.

It listens on a Unix socket of its own and passes on the frames of the protocol, both ways. The
next COMMITs meet what was planned for them, in order; after that they pass. Cancel requests are
counted: the store must never send one.
"""

from __future__ import annotations

import shutil
import socket
import struct
import tempfile
from collections import deque
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOCKET = ".s.PGSQL.5432"
CANCEL_REQUEST = 80877102
COMMIT = b"Qcommit\x00"
ANSWERED = b"Z"
CHUNK = 65_536


class Cut(StrEnum):
    """What becomes of a COMMIT."""

    BEFORE = "before"  # it never reaches the server, and the connection is lost
    AFTER = "after"  # it is done, the answer and the connection are lost
    DURING = "during"  # it is on its way when the client is cut; the server is not told
    SILENT = "silent"  # it is done, and nobody ever answers
    NEVER = "never"  # it never reaches the server, nobody ever answers, nobody hangs up
    HELD = "held"  # it waits here until `release`


class Wire:
    """Between a store and the server whose socket lies in `upstream`."""

    def __init__(self, upstream: str, host: str) -> None:
        self.host = host
        self.upstream = upstream
        self.plan: deque[Cut] = deque()
        self.commits = 0
        self.cancel_requests = 0
        self.parses = 0
        self.held = trio.Event()
        self.release = trio.Event()
        self._lines: set[Line] = set()

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Pass connections on until cancelled."""
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            await listener.bind(f"{self.host}/{SOCKET}")
            listener.listen(64)
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    client, _ = await listener.accept()
                    nursery.start_soon(self._connect, trio.SocketStream(client))

    async def _connect(self, client: trio.SocketStream) -> None:
        startup = await read_startup(client)
        if startup[4:8] == struct.pack("!I", CANCEL_REQUEST):
            self.cancel_requests += 1
            await client.aclose()
            return
        server = await trio.open_unix_socket(f"{self.upstream}/{SOCKET}")
        await server.send_all(startup)
        line = Line(self, client, server)
        self._lines.add(line)
        await line.run()
        self._lines.discard(line)

    def mute(self) -> None:
        """Let no byte pass any more on the connections that are there; nobody hangs up."""
        for line in self._lines:
            line.mute = True

    async def cut(self) -> None:
        """Cut every connection that is there."""
        for line in set(self._lines):
            await line.hang_up()


class Line:
    """One connection."""

    def __init__(self, wire: Wire, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.wire, self.client, self.server = wire, client, server
        self.mute = False
        self.keeps_server = False  # also when the client goes: the server is not told
        self._cut: Cut | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._from_client)
            nursery.start_soon(self._from_server)

    async def _from_client(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for frame in frames(self.client):
                self.wire.parses += frame[:1] == b"P"
                if frame[:1] + frame[5:] == COMMIT:
                    await self._commit(frame)
                elif not self.mute:
                    await self.server.send_all(frame)
        if not self.keeps_server:
            await self.hang_up()

    async def _from_server(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for frame in frames(self.server):
                if self._cut is Cut.AFTER and frame[:1] == ANSWERED:
                    await self.hang_up()
                elif self._cut is None and not self.mute:
                    await self.client.send_all(frame)
        if self._cut is None and not self.mute:
            await self.hang_up()

    async def _commit(self, frame: bytes) -> None:
        self.wire.commits += 1
        planned = self.wire.plan.popleft() if self.wire.plan else None
        if planned is Cut.HELD:
            self.wire.held.set()
            await self.wire.release.wait()
            planned = None
        self._cut = planned
        self.keeps_server = planned in {Cut.DURING, Cut.NEVER}
        if planned is Cut.BEFORE:
            await self.hang_up()
        elif planned is not Cut.NEVER and not self.mute:
            await self.server.send_all(frame)
        if planned is Cut.DURING:
            await self.client.aclose()

    async def hang_up(self) -> None:
        await self.client.aclose()
        await self.server.aclose()


async def read_startup(stream: trio.SocketStream) -> bytes:
    """Read the first message, which has no type byte."""
    buffer = b""
    while len(buffer) < 4 or len(buffer) < struct.unpack("!I", buffer[:4])[0]:
        chunk = await stream.receive_some(CHUNK)
        if not chunk:
            break
        buffer += chunk
    return buffer


async def frames(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    """Yield messages until the other side hangs up: a type byte, a length, a body."""
    buffer = bytearray()
    async for chunk in stream:
        buffer += chunk
        while len(buffer) >= 5 and len(buffer) > (length := struct.unpack_from("!I", buffer, 1)[0]):
            yield bytes(buffer[: length + 1])
            del buffer[: length + 1]


@asynccontextmanager
async def open_wire(upstream: str) -> AsyncIterator[Wire]:
    """Run a wire for the length of the block."""
    host = Path(tempfile.mkdtemp(prefix="dpp-wire-"))
    wire = Wire(upstream, str(host))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(wire.serve)
            yield wire
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(host, ignore_errors=True)
