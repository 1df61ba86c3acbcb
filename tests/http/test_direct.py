"""A socket that is asked directly does what its stream does."""

from __future__ import annotations

import os
import socket
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dpp.http.direct import DirectSocket
from dpp.http.inbox import RECV_MAX

MANY = bytes(1 << 24)  # more than the kernel takes


@pytest.fixture
async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Return both ends of a connection: TCP, since a Unix socket is never reset."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    theirs = await trio.open_tcp_stream(*listener.socket.getsockname())
    ours = await listener.accept()
    await listener.aclose()
    return ours, theirs


def reset(stream: trio.SocketStream) -> None:
    """Close it so that its peer is told of a loss, not of an end."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def test_bytes_are_waited_for_and_then_their_end(
    pair: tuple[trio.SocketStream, trio.SocketStream],
) -> None:
    ours, theirs = pair
    direct, read = DirectSocket(ours), []

    async def reading() -> None:
        while data := await direct.receive_some(RECV_MAX):
            read.append(data)

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(reading)
        await wait_all_tasks_blocked()
        await theirs.send_all(b"GET")
        await theirs.send_eof()

    assert read == [b"GET"]


async def test_no_more_is_read_than_was_asked_for(
    pair: tuple[trio.SocketStream, trio.SocketStream],
) -> None:
    ours, theirs = pair
    async with ours, theirs:
        await theirs.send_all(b"GET /")

        assert [await DirectSocket(ours).receive_some(size) for size in (3, 9)] == [b"GET", b" /"]


async def test_what_the_kernel_does_not_take_is_left(
    pair: tuple[trio.SocketStream, trio.SocketStream],
) -> None:
    ours, theirs = pair
    async with ours, theirs:
        direct = DirectSocket(ours)

        taken = direct.send_now(memoryview(MANY))

        assert 0 < taken < len(MANY)
        while (more := direct.send_now(memoryview(MANY))) > 0:  # until it takes nothing
            taken += more
        ours.socket.shutdown(socket.SHUT_WR)
        came = 0
        while data := await theirs.receive_some():
            came += len(data)
        assert came == taken


async def test_a_lost_peer_is_told_as_a_stream_tells_it(
    pair: tuple[trio.SocketStream, trio.SocketStream],
) -> None:
    ours, theirs = pair
    async with ours:
        direct = DirectSocket(ours)
        reset(theirs)

        with pytest.raises(trio.BrokenResourceError):
            await direct.receive_some(RECV_MAX)
        with pytest.raises(trio.BrokenResourceError):
            direct.send_now(memoryview(b"HTTP"))


async def test_a_closed_stream_writes_into_nothing_else(
    pair: tuple[trio.SocketStream, trio.SocketStream],
) -> None:
    ours, theirs = pair
    number = ours.socket.fileno()
    direct = DirectSocket(ours)
    async with theirs:
        await ours.aclose()
        reader, writer = os.pipe()  # it gets the number that is free now
        try:
            assert number in {reader, writer}
            with pytest.raises(trio.BrokenResourceError):
                direct.send_now(memoryview(b"HTTP"))
        finally:
            os.close(reader)
            os.close(writer)
