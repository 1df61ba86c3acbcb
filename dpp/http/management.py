"""hypercorn's trio worker for the management listener, with a guard around each connection.

What hypercorn 0.18 leaves open is closed here: a fault of one connection would end the whole
server, cleartext HTTP/2 and WebSockets are always on, sends wait for ever under a shield, nothing
limits connections. To that end its connection class is extended, which needs names that are private
to it: `check_private_names` asserts them at start, so that an update is noticed then.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from dpp.http.asgi import Address, App
from dpp.http.listener import listen
from dpp.logs import get_logger
from dpp.metrics import http_connection_faults_total

CONNECTIONS_MAX: Final = 64  # scrapers, operators, a console; nobody else comes here
SEND_S: Final = 10.0  # a peer that reads nothing for so long is gone
KEEP_ALIVE_S: Final = 15.0  # longer than the pause between two scrapes of a keen Prometheus
GRACE_S: Final = 3.0
_VERSIONS: Final = (b"1.0", b"1.1")
_PRIVATE: Final = {
    TCPServer: ("_read_data", "_idle_timeout", "_close", "protocol_send"),
    H11Protocol: ("_check_protocol", "_create_stream"),
}

log = get_logger(__name__)


class NotHttp1(Exception):
    """The peer speaks something else; it is not answered."""


class Http1(H11Protocol):
    """HTTP/1.0 and 1.1, and no way out of them."""

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.http_version not in _VERSIONS or event.method == b"CONNECT":
            raise NotHttp1

    async def _create_stream(self, request: h11.Request) -> None:
        kept = [(name, value) for name, value in request.headers if name != b"upgrade"]
        plain = h11.Request(
            method=request.method,
            target=request.target,
            headers=kept,
            http_version=request.http_version,
        )
        await super()._create_stream(plain)


class Http1Server(TCPServer):
    """One connection. Its task group and its timers are hypercorn's."""

    stream: Any  # a plain socket stream; hypercorn's type knows only TLS

    async def run(self) -> None:
        """Serve the connection to its end."""
        sock = self.stream.socket
        try:
            async with TaskGroup() as task_group:
                self._task_group = task_group
                self.protocol: Any = Http1(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState(self.state),
                    ssl=False,
                    client=parse_socket_addr(sock.family, sock.getpeername()),
                    server=parse_socket_addr(sock.family, sock.getsockname()),
                    send=self.protocol_send,
                )
                await self.idle_task.restart(task_group, self._idle_timeout)
                await self._read_data()
        finally:
            with trio.move_on_after(SEND_S, shield=True):
                await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Send as hypercorn does, but not for ever."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.move_on_after(SEND_S, shield=True) as limit:
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                gone = True
            else:
                gone = limit.cancelled_caught
        if gone:
            await self.protocol.handle(Closed())


def check_private_names() -> None:
    """Assert that hypercorn still is what is extended here."""
    for owner, names in _PRIVATE.items():
        missing = [name for name in names if not hasattr(owner, name)]
        assert not missing, f"hypercorn changed: {owner.__name__} has no {', '.join(missing)}"


def configuration() -> Config:
    """Return hypercorn's configuration."""
    config = Config()
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.graceful_timeout = GRACE_S
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    return config


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    handlers: trio.Nursery,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept until `stopping` is set. Connections live in `handlers` and end soon after it."""
    check_private_names()
    context = WorkerContext(None)
    wrapped = ASGIWrapper(cast("Any", app))  # hypercorn spells out every kind of message
    make = partial(Http1Server, wrapped, configuration(), context, ConnectionState({}))
    places = trio.CapacityLimiter(CONNECTIONS_MAX)
    listeners = listen(sockets)
    with trio.CancelScope() as accepting:
        handlers.start_soon(_stop, stopping, accepting, context)
        task_status.started([sock.getsockname()[:2] for sock in sockets])
        await trio.serve_listeners(
            partial(guard, make, places), listeners, handler_nursery=handlers
        )


async def guard(
    make: Callable[[trio.SocketStream], Awaitable[None]],
    places: trio.CapacityLimiter,
    stream: trio.SocketStream,
) -> None:
    """Serve a connection if there is a place; whatever goes wrong with it ends here."""
    try:
        places.acquire_on_behalf_of_nowait(stream)
    except trio.WouldBlock:
        await trio.aclose_forcefully(stream)
        return
    try:
        await make(stream)
    except* (NotHttp1, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the peer's doing
    except* Exception:
        http_connection_faults_total.inc()
        log.exception("management connection failed")
    finally:
        places.release_on_behalf_of(stream)


async def _stop(stopping: trio.Event, accepting: trio.CancelScope, context: WorkerContext) -> None:
    await stopping.wait()
    accepting.cancel(reason="drain")
    await context.terminated.set()
