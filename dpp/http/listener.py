"""The public listener: sockets that DPP builds, the accept loop, the limit on connections, drain.

`serve` returns once it accepts no more and the last connection is over. Past the limit a client is
answered 503 and closed; past a second one it is closed unheard, so that descriptors stay bounded.
"""

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import trio

from dpp.http.asgi import Address, App
from dpp.http.connection import Connection, Dates, Refuse, Served, guard
from dpp.http.exchange import Patience
from dpp.http.heads import Violation
from dpp.http.replies import last_words
from dpp.metrics import http_connections

BACKLOG: Final = 1024  # of connections not yet accepted; the kernel cuts it to somaxconn
USER_TIMEOUT_MS: Final = 20_000  # unacknowledged bytes: the peer's machine is gone
KEEPALIVE_IDLE_S: Final = 60
KEEPALIVE_INTERVAL_S: Final = 15
KEEPALIVE_PROBES: Final = 4
TURNED_AWAY_MAX: Final = 256  # answered 503 at a time
TURN_AWAY_S: Final = 1.0
LOOK_S: Final = 0.25  # between two looks for who idles: one at 10,000 connections takes 3 ms
MAKE_ROOM_S: Final = 2.0  # an idle connection is closed in one, at the latest
FULL: Final = Violation("temporary-reduced-capacity", "too many connections; try again in a moment")


@contextmanager
def bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Give the sockets of `bind`; whatever happens, they are closed when this is left."""
    sockets = bind(host, port)
    try:
        yield sockets
    finally:
        _close(sockets)


@contextmanager
def adopted(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    """Give sockets that listen already as `bound` gives its own."""
    try:
        for sock in sockets:
            prepare(sock)
        yield sockets
    finally:
        _close(sockets)


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets for every address of the host; port 0 = one free port for all.

    They refuse connections until `listen`. Raises OSError that names the address.
    """
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in _addresses(host, port):
            where = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
            sockets.append(_bound(socket.socket(family, kind, protocol), where))
    except OSError as error:
        _close(sockets)
        raise _named(error, host, port) from error
    return sockets


def listen(sockets: Sequence[socket.socket]) -> list[trio.SocketListener]:
    """Let connections come. Raises OSError that names the address: another was first after all."""
    for sock in sockets:
        host, port = sock.getsockname()[:2]
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for what is accepted
            sock.listen(BACKLOG)
        except OSError as error:
            raise _named(error, host, port) from error
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


def _addresses(host: str, port: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:  # its numbers are none of errno's
        raise OSError(errno.EADDRNOTAVAIL, error.strerror) from error


def _named(error: OSError, host: str, port: int) -> OSError:
    return OSError(error.errno, f"{host} port {port}: {error.strerror}")


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _bound(sock: socket.socket, address: tuple[object, ...]) -> socket.socket:
    """Bind. Accepted sockets inherit the options; Python's sockets are close-on-exec."""
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        prepare(sock)
        _take(sock, address)
    except OSError:
        sock.close()
        raise
    return sock


def _take(sock: socket.socket, address: tuple[object, ...]) -> None:
    """Bind so that nobody else can, where no connections of an earlier node linger there.

    With SO_REUSEADDR the port could be bound once more until one of the two listens.
    """
    try:
        sock.bind(address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)


def prepare(sock: socket.socket) -> None:
    """Set what every accepted socket inherits; also for sockets that systemd opened."""
    sock.setblocking(False)  # noqa: FBT003 - the method takes no name
    sock.set_inheritable(False)
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


class Reception:
    """Lets connections in, up to the limit, and knows those that are open."""

    def __init__(
        self,
        app: App,
        refuse: Refuse,
        *,
        connections_max: int,
        patience: Patience,
        make: Callable[..., Served] = Connection,
        secure: bool = False,
    ) -> None:
        """`make` is called as `Connection` is; where it speaks TLS, who is too many hears nothing.

        A handshake would cost more than the answer that it hides.
        """
        self._app = app
        self._make = make
        self._secure = secure
        self._refuse = refuse
        self._patience = patience
        self._places = trio.CapacityLimiter(connections_max)
        self._turned_away = trio.CapacityLimiter(TURNED_AWAY_MAX)
        self._dates = Dates()
        self._open: set[Served] = set()
        self._draining = False

    async def receive(self, stream: trio.SocketStream) -> None:
        """Serve this connection to its end, or turn it away."""
        if not await self._has_place(stream):
            await self._turn_away(stream)
            return
        try:
            await self._serve(stream)
        finally:
            self._places.release_on_behalf_of(stream)

    async def _has_place(self, stream: trio.SocketStream) -> bool:
        """Take a place for it; where there is none, whoever idles longest has to go."""
        try:
            self._places.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            idle = [one for one in self._open if one.idle_since is not None]
            if not idle:
                await trio.lowlevel.checkpoint()
                return False
            min(idle, key=lambda one: one.idle_since or 0.0).drain()
            with trio.move_on_after(MAKE_ROOM_S) as limit:
                await self._places.acquire_on_behalf_of(stream)
            return not limit.cancelled_caught
        await trio.lowlevel.checkpoint()
        return True

    def close_idle(self) -> float:
        """Close who idles for `idle_s`, and return when to look again.

        So no connection sets a timer for each request. What begins to idle meanwhile is due later.
        """
        now, idle_s = trio.current_time(), self._patience.idle_s
        since = [(one.idle_since, one) for one in self._open if one.idle_since is not None]
        for idle_since, one in since:
            if idle_since + idle_s <= now:
                one.drain()
        left = [idle_since for idle_since, _ in since if idle_since + idle_s > now]
        return max(min(left, default=now) + idle_s, now + LOOK_S)

    def drain(self) -> None:
        """Close what is idle, let what is being answered end."""
        self._draining = True
        for connection in self._open:
            connection.drain()

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            connection = self._make(
                stream, self._app, self._refuse, patience=self._patience, dates=self._dates
            )
        except OSError:  # it was gone before we looked: it has no address any more
            await trio.aclose_forcefully(stream)
            return
        if self._draining:
            connection.drain()
        self._open.add(connection)
        http_connections.inc()
        try:
            await guard(connection)
        finally:
            http_connections.dec()
            self._open.discard(connection)

    async def _turn_away(self, stream: trio.SocketStream) -> None:
        out = last_words(self._refuse(FULL, None), "", self._dates.now())
        async with stream:
            if self._secure:
                return
            try:
                self._turned_away.acquire_on_behalf_of_nowait(stream)
            except trio.WouldBlock:
                return
            try:
                with trio.move_on_after(TURN_AWAY_S):
                    await stream.send_all(out)
                    await stream.send_eof()
                    while await stream.receive_some(1024):
                        pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self._turned_away.release_on_behalf_of(stream)


async def serve(
    reception: Reception,
    sockets: Sequence[socket.socket],
    handlers: trio.Nursery,
    draining: trio.Event,
    *,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept until `draining` is set. Connections live in `handlers`, which ends with the last."""
    listeners = listen(sockets)
    addresses = [sock.getsockname()[:2] for sock in sockets]
    with trio.CancelScope() as accepting:
        handlers.start_soon(_tend, draining, accepting, reception)
        task_status.started(addresses)
        await trio.serve_listeners(reception.receive, listeners, handler_nursery=handlers)


async def _tend(draining: trio.Event, accepting: trio.CancelScope, reception: Reception) -> None:
    """Close who idles, until the drain begins."""
    while not draining.is_set():
        with trio.move_on_at(reception.close_idle()):
            await draining.wait()
    accepting.cancel(reason="drain")
    reception.drain()
