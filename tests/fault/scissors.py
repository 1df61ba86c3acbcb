"""A place between a store and its server, told by message: the k-th of one operation, either way.

An operation begins with the first BEGIN after `arm` and is followed on the connection that sent it,
the client's messages and the server's counted together as they come. At the place that was asked
for, somebody is told and the message waits until `go_on`; then it passes, or is cut off with its
connection. What the operation asks on other connections afterwards passes.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.store.wire import BEGIN, HEAD, SOCKET, Frames, read_startup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Scissors:
    """Between clients and the server whose socket lies in `upstream`."""

    def __init__(self, upstream: str, host: str) -> None:
        self.host = host
        self.upstream = upstream
        self.place = 0
        self.cuts = False
        self.passed = 0  # messages of the operation
        self.reached = trio.Event()
        self._go_on = trio.Event()
        self._operation: Pair | None = None  # the connection that it began on
        self._armed = False

    def arm(self, place: int, *, cuts: bool, waits: bool = False) -> None:
        """Watch the next operation up to its message number `place`, from 1.

        `cuts`: that message is lost. `waits`: it goes on only when told to.
        """
        assert place > 0
        self.place, self.cuts, self.passed = place, cuts, 0
        self.reached, self._go_on = trio.Event(), trio.Event()
        self._operation, self._armed = None, True
        if not waits:
            self._go_on.set()

    def go_on(self) -> None:
        """Let the message go on that waits."""
        self._go_on.set()

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
        async with client, await trio.open_unix_socket(f"{self.upstream}/{SOCKET}") as server:
            await server.send_all(await read_startup(client))
            await Pair(self, client, server).run()

    async def comes(self, pair: Pair, message: bytes) -> bool:
        """Say whether a message may pass; wait with it where it is the one."""
        if self._armed and message.startswith(BEGIN[1:], HEAD):
            self._operation, self._armed = pair, False
        if self._operation is not pair:
            return True
        self.passed += 1
        if self.passed != self.place:
            return True
        self.reached.set()
        await self._go_on.wait()
        return not self.cuts


class Pair:
    """One connection."""

    def __init__(
        self, scissors: Scissors, client: trio.SocketStream, server: trio.SocketStream
    ) -> None:
        self.scissors, self.client, self.server = scissors, client, server

    async def run(self) -> None:
        """Pass messages on until one side hangs up or a message is cut off."""
        async with trio.open_nursery() as nursery:
            for source, target in (self.client, self.server), (self.server, self.client):
                nursery.start_soon(self._pass_on, source, target, nursery.cancel_scope)

    async def _pass_on(
        self, source: trio.SocketStream, target: trio.SocketStream, whole: trio.CancelScope
    ) -> None:
        frames = Frames(source)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while some := await frames.receive():
                for message in some:
                    if not await self.scissors.comes(self, message):
                        whole.cancel(reason="cut")
                        return
                    await target.send_all(message)
        whole.cancel(reason="hung up")


@asynccontextmanager
async def open_scissors(upstream: str) -> AsyncIterator[Scissors]:
    """Run them for the length of the block."""
    host = Path(tempfile.mkdtemp(prefix="dpp-cut-"))
    scissors = Scissors(upstream, str(host))
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(scissors.serve)
            yield scissors
            nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(host, ignore_errors=True)
