"""A wire to PostgreSQL that can be cut where it hurts: at COMMIT.

It listens on a Unix socket of its own and passes on the frames of the protocol, both ways, as many
at once as have come. The next COMMITs meet what was planned for them, in order; after that they
pass. It can also be cut at any message, slowed down, and held so that nothing passes and nobody
hangs up. Cancel requests are counted: the store must never send one.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections import deque
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from pathlib import Path
from random import Random
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

    def __init__(self, upstream: str, host: str, seed: int = 0) -> None:
        self.dice = Random(seed)
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
        self.passing = trio.Event()  # while it is not set, no byte passes, on new connections too
        self.passing.set()
        self.stopped = 0  # how often something had to wait for it
        self.delay_s: tuple[float, float] | None = None  # from, to: of each piece, either way
        self.delayed = 0
        self.cut_in: int | None = None  # messages of clients until a connection is cut
        self.cut_passes = False  # the message where that happens still reaches the server
        self.message_cuts = 0
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
        await self.hinder()
        try:
            server = await trio.open_unix_socket(f"{self.upstream}/{SOCKET}")
            await server.send_all(startup)
        except (OSError, trio.BrokenResourceError):  # the server is away
            client.socket.close()
            return
        line = Line(self, client, server)
        self._lines.add(line)
        try:
            await line.run()
        finally:
            self._lines.discard(line)

    async def hinder(self) -> None:
        """Wait as long as what has come here has to, just now."""
        if self.delay_s is not None:
            self.delayed += 1
            await trio.sleep(self.dice.uniform(*self.delay_s))
        if not self.passing.is_set():
            self.stopped += 1
            await self.passing.wait()

    def hold(self) -> None:
        """Let no byte pass until `passing` is set again; nobody hangs up."""
        self.passing = trio.Event()

    def cuts_here(self) -> bool:
        """Count a message of a client; say whether its connection is to be cut at it."""
        if self.cut_in is None:
            return False
        self.cut_in -= 1
        if self.cut_in > 0:
            return False
        self.cut_in = None
        self.message_cuts += 1
        return True

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
            while some := await frames.receive():
                passing: list[bytes] = []
                for frame in some:
                    self._count(frame)
                    if without_length(frame) == COMMIT:
                        await self._send_server(passing)
                        await self._commit(frame)
                    elif self.wire.cuts_here():
                        await self._send_server(passing + [frame] * self.wire.cut_passes)
                        self.hang_up()
                        break
                    else:
                        passing.append(frame)
                await self._send_server(passing)
        if not self.keeps_server:
            self.hang_up()

    async def _from_server(self) -> None:
        frames = Frames(self.server)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while some := await frames.receive():
                passing = [frame for frame in some if self._passes(frame)]
                if passing:
                    await self.wire.hinder()
                    await self.client.send_all(b"".join(passing))
        if self._cut is None and not self.mute:
            self.hang_up()

    def _count(self, frame: bytes) -> None:
        kind = frame[:1]
        if kind == PARSE:
            self.wire.parsed.append(frame[HEAD:])
        self.wire.executed += kind == EXECUTE
        self.wire.begins += frame.startswith(BEGIN[1:], HEAD) and kind == BEGIN[:1]

    async def _send_server(self, passing: list[bytes]) -> None:
        """Send what has come, and forget it."""
        if passing and self._cut is None and not self.mute:  # not even the driver's good-bye
            await self.wire.hinder()
            await self.server.send_all(b"".join(passing))
        passing.clear()

    def _passes(self, frame: bytes) -> bool:
        """Say whether the client gets this, and do what was planned for after it."""
        is_ready = frame[:1] == READY
        if self._cut is Cut.AFTER and is_ready:
            self.hang_up()
        if self._cut is not None or self.mute or self._is_hidden(frame):
            return False
        self.mute = self.wire.mute_after_login and is_ready
        return True

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
            await self.wire.hinder()
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
        self._buffer = b""

    async def receive(self) -> list[bytes]:
        """Return the next ones, as many as are there; none once the other side has hung up."""
        while not (frames := self._take()):
            chunk = await self._stream.receive_some(CHUNK)
            if not chunk:
                return []
            self._buffer += chunk
        return frames

    def _take(self) -> list[bytes]:
        frames, begin, there = [], 0, len(self._buffer)
        while there - begin >= HEAD:
            end = begin + 1 + length(self._buffer[begin + 1 : begin + HEAD])
            if end > there:
                break
            frames.append(self._buffer[begin:end])
            begin = end
        self._buffer = self._buffer[begin:]
        return frames


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
