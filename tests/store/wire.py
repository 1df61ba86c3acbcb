"""A wire to PostgreSQL that can be cut where it hurts: at COMMIT.

It listens on a Unix socket of its own and passes on the frames of the protocol, both ways. The
next COMMITs meet what was planned for them, in order; after that they pass. Cancel requests are
counted: the store must never send one.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections import deque
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

SOCKET = ".s.PGSQL.5432"
CANCEL_REQUEST = 80877102
COMMIT = b"Qcommit\x00"
BEGIN = b"Qbegin "
PARSE, EXECUTE, READY = b"P", b"E", b"Z"
STANDBY = b"Sin_hot_standby\x00"
HEAD = 5
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
        self.next_cut: Callable[[], Cut | None] = lambda: None  # once the plan is used up
        self.commits = 0
        self.cuts = 0
        self.cancel_requests = 0
        self.begins = 0
        self.deaf = False  # a login is taken and never answered
        self.mute_after_login = False  # a login is answered, and nothing after it
        self.hides_standby = False  # as old servers and poolers do: the driver has to ask for it
        self.parsed: list[bytes] = []  # each prepared statement, as it was sent
        self.executed = 0  # how often one was run
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
        if length(startup[4:]) == CANCEL_REQUEST:
            self.cancel_requests += 1
            client.socket.close()
            return
        if self.deaf:
            await read_to_the_end(client)
            return
        server = await trio.open_unix_socket(f"{self.upstream}/{SOCKET}")
        await server.send_all(startup)
        line = Line(self, client, server)
        self._lines.add(line)
        try:
            await line.run()
        finally:
            self._lines.discard(line)

    @property
    def lines(self) -> int:
        """Count the connections that are there."""
        return len(self._lines)

    def mute(self) -> None:
        """Let no byte pass any more on the connections that are there; nobody hangs up."""
        for line in self._lines:
            line.mute = True

    def cut(self) -> None:
        """Cut every connection that is there."""
        for line in self._lines:
            line.hang_up()


class Line:
    """One connection."""

    def __init__(self, wire: Wire, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.wire, self.client, self.server = wire, client, server
        self.mute = False
        self.keeps_server = False  # also when the client goes: the server is not told
        self._cut: Cut | None = None

    async def run(self) -> None:
        """Pass frames on until one side hangs up, or the wire is taken away."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._from_client)
                nursery.start_soon(self._from_server)
        finally:
            self.hang_up()

    async def _from_client(self) -> None:
        frames = Frames(self.client)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while frame := await frames.receive():
                if frame[:1] == PARSE:
                    self.wire.parsed.append(frame[HEAD:])
                content = without_length(frame)
                self.wire.executed += frame[:1] == EXECUTE
                self.wire.begins += content.startswith(BEGIN)
                if content == COMMIT:
                    await self._commit(frame)
                elif self._cut is None and not self.mute:  # not even the driver's good-bye
                    await self.server.send_all(frame)
        if not self.keeps_server:
            self.hang_up()

    async def _from_server(self) -> None:
        frames = Frames(self.server)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while frame := await frames.receive():
                if self._cut is Cut.AFTER and frame[:1] == READY:
                    self.hang_up()
                elif self._cut is None and not self.mute and not self._is_hidden(frame):
                    self.mute = self.wire.mute_after_login and frame[:1] == READY
                    await self.client.send_all(frame)
        if self._cut is None and not self.mute:
            self.hang_up()

    def _is_hidden(self, frame: bytes) -> bool:
        return self.wire.hides_standby and without_length(frame).startswith(STANDBY)

    async def _commit(self, frame: bytes) -> None:
        self.wire.commits += 1
        planned = self.wire.plan.popleft() if self.wire.plan else self.wire.next_cut()
        self.wire.cuts += planned is not None
        if planned is Cut.HELD:
            self.wire.held.set()
            await self.wire.release.wait()
            planned = None
        self._cut = planned
        self.keeps_server = planned in {Cut.DURING, Cut.NEVER}
        if planned is Cut.BEFORE:
            self.hang_up()
        elif planned is not Cut.NEVER and not self.mute:
            await self.server.send_all(frame)
        if planned is Cut.DURING:
            self.client.socket.close()

    def hang_up(self) -> None:
        """Close both ends; whoever reads or writes sees it."""
        self.client.socket.close()
        self.server.socket.close()


class Frames:
    """The messages of one direction: a type byte, a length, a body."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def receive(self) -> bytes:
        """Return the next one; nothing once the other side has hung up."""
        while (frame := self._take()) is None:
            chunk = await self._stream.receive_some(CHUNK)
            if not chunk:
                return b""
            self._buffer += chunk
        return frame

    def _take(self) -> bytes | None:
        if len(self._buffer) < HEAD or len(self._buffer) <= (size := length(self._buffer[1:])):
            return None
        frame = bytes(self._buffer[: size + 1])
        del self._buffer[: size + 1]
        return frame


def without_length(frame: bytes) -> bytes:
    """Return the type byte and the body."""
    return frame[:1] + frame[HEAD:]


def length(buffer: bytes | bytearray) -> int:
    """Return the length that a message names, itself included."""
    return int.from_bytes(buffer[:4])


async def read_startup(stream: trio.SocketStream) -> bytes:
    """Read the first message, which has no type byte."""
    buffer = b""
    while len(buffer) < 4 or len(buffer) < length(buffer):
        chunk = await stream.receive_some(CHUNK)
        if not chunk:
            break
        buffer += chunk
    return buffer


async def read_to_the_end(stream: trio.SocketStream) -> None:
    """Take what comes and say nothing, until the other side hangs up."""
    async with stream:
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(CHUNK):
                pass


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
