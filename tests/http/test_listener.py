"""The sockets of a listener: a port that is taken, and one that is taken after all."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.http import listener
from dpp.http.exchange import Patience
from tests.http.server import refuse

if TYPE_CHECKING:
    from trio.testing import MockClock

HOST = "127.0.0.1"


def test_a_bound_port_refuses_connections_until_it_listens() -> None:
    with listener.bound(HOST, 0) as sockets:
        address = sockets[0].getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)

        listener.listen(sockets)

        socket.create_connection(address).close()
    with pytest.raises(ConnectionRefusedError):  # closed when it is left
        socket.create_connection(address)


def test_a_port_where_another_listens_is_named() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OSError, match=f"{HOST} port {port}: ") as refused:
            listener.bind(HOST, port)

    assert refused.value.errno == errno.EADDRINUSE


def test_a_bound_port_is_nobody_elses_before_it_listens() -> None:
    with listener.bound(HOST, 0) as ours:
        port = ours[0].getsockname()[1]

        with pytest.raises(OSError, match=f"{HOST} port {port}: ") as refused:
            listener.bind(HOST, port)

    assert refused.value.errno == errno.EADDRINUSE


def lingering() -> int:
    """Return a port on which a connection lingers that a listener of ours has closed."""
    with listener.bound(HOST, 0) as sockets:
        listener.listen(sockets)
        address = sockets[0].getsockname()
        with socket.create_connection(address) as client:
            sockets[0].settimeout(5)
            sockets[0].accept()[0].close()
            client.recv(1)
    return int(address[1])


def test_a_port_is_taken_again_while_connections_of_an_earlier_node_linger() -> None:
    port = lingering()

    with listener.bound(HOST, port) as sockets:
        listener.listen(sockets)
        socket.create_connection((HOST, port)).close()


def test_a_port_where_another_listened_first_after_all_is_named() -> None:
    port = lingering()
    with listener.bound(HOST, port) as ours:
        words = f"{HOST} port {port}: "
        with socket.create_server((HOST, port)), pytest.raises(OSError, match=words) as refused:
            listener.listen(ours)

    assert refused.value.errno == errno.EADDRINUSE


def test_a_host_that_is_none_is_an_address_that_is_not_there() -> None:
    with pytest.raises(OSError, match=r"nobody\.invalid port 80: ") as refused:
        listener.bind("nobody.invalid", 80)

    assert refused.value.errno == errno.EADDRNOTAVAIL


class Idler:
    """A connection that asks at given times, and idles from then on until it is drained."""

    def __init__(self, asks: list[float]) -> None:
        self._asks = asks
        self._drained = trio.Event()
        self.idle_since: float | None = None
        self.over_at = 0.0

    async def run(self) -> None:
        for at in self._asks:
            await trio.sleep_until(at)
            self.idle_since = at
        await self._drained.wait()
        self.over_at = trio.current_time()

    def drain(self) -> None:
        self._drained.set()


async def test_who_idles_for_too_long_is_closed_when_its_own_time_is_up(
    autojump_clock: MockClock,
) -> None:
    now = trio.current_time()
    idlers = [Idler([now + at for at in asks]) for asks in ([3.0], [1.0, 9.0, 17.0], [8.0], [40.0])]
    coming = iter(idlers)

    def make(*_: Any, **__: Any) -> Idler:
        return next(coming)

    reception = listener.Reception(
        no_app, refuse, connections_max=10, patience=Patience(idle_s=10.0), make=make
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look, reception)
        async with trio.open_nursery() as connections:
            for _ in idlers:
                connections.start_soon(reception.receive, object())
        nursery.cancel_scope.cancel()

    assert [one.over_at - now for one in idlers] == pytest.approx([13.0, 27.0, 18.0, 50.0])


async def look(reception: listener.Reception) -> None:
    while True:  # noqa: ASYNC110 - as the listener does
        await trio.sleep_until(reception.close_idle())


async def no_app(*_: object) -> None:
    raise AssertionError
