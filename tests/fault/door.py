"""A door of a mailroom: it can be shut, then it refuses connections, and is where it was."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import trio
from attrs import define, field

BACKLOG = 128

Receive: TypeAlias = Callable[["Door", trio.SocketStream], Awaitable[None]]


@define(eq=False)
class Door:
    """Where one tenant's events come, and what its endpoint is."""

    tenant: str
    # Bound, and never listens: it keeps the port, where a node that starts could get it else.
    guard: trio.socket.SocketType
    webhook_id: str = ""
    secret: str = ""
    _open: trio.CancelScope = field(factory=trio.CancelScope)
    _to_open: trio.Event = field(factory=trio.Event)

    @property
    def port(self) -> int:
        port: int = self.guard.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def serve(
        self,
        receive: Receive,
        nursery: trio.Nursery,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Let in whoever comes while it is open; they are received in the nursery."""
        while True:
            listening = await bound(self.port)
            listening.listen(BACKLOG)
            listener = trio.SocketListener(listening)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            with self._open:
                handle = partial(receive, self)
                await trio.serve_listeners(handle, [listener], handler_nursery=nursery)
            await self._to_open.wait()
            self._open, self._to_open = trio.CancelScope(), trio.Event()

    @asynccontextmanager
    async def shut(self) -> AsyncIterator[None]:
        """Have it shut during the block, from soon after its beginning to soon after its end."""
        self._open.cancel()
        try:
            yield
        finally:
            self._to_open.set()


async def bound(port: int = 0) -> trio.socket.SocketType:
    """Return a socket on 127.0.0.1, which shares its port with others of ours."""
    one = trio.socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    await one.bind(("127.0.0.1", port))
    return one
