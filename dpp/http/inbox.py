"""The inbox of a connection: bytes of the peer, read ahead up to a bound.

One task reads, whoever needs bytes takes them. Because the reading goes on while a request is being
answered, a peer that leaves is noticed then; because it stops at the bound, a peer that sends
faster than it is answered is held back by TCP.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol

import trio

RECV_MAX: Final = 64 * 1024
AHEAD_MAX: Final = (
    64 * 1024
)  # holds pipelined requests and the next piece of a body; more waits in the kernel


class Peer(Enum):
    """The other side. `ENDED`: it sends no more, but may still read; `LOST`: neither."""

    OPEN = auto()
    ENDED = auto()
    LOST = auto()


class Incoming(Protocol):
    """Where the bytes come from; raises `BrokenResourceError` or `ClosedResourceError`."""

    async def receive_some(self, max_bytes: int) -> bytes: ...


class Inbox:
    """What the peer sent and nobody took yet."""

    def __init__(self, stream: Incoming, on_end: Callable[[Peer], None]) -> None:
        self.held = bytearray()
        self.peer = Peer.OPEN
        self._stream = stream
        self._on_end = on_end
        self._arrived = trio.Event()
        self._room = trio.Event()

    async def fill(self) -> None:
        """Read until the peer sends no more. `on_end` is told at once."""
        while self.peer is Peer.OPEN:
            try:
                data = await self._stream.receive_some(RECV_MAX)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.peer = Peer.LOST
            else:
                self.held += data
                if not data:
                    self.peer = Peer.ENDED
            self._arrived.set()
            if self.peer is Peer.OPEN and len(self.held) >= AHEAD_MAX:
                self._room = trio.Event()
                await self._room.wait()
        self._on_end(self.peer)

    async def more(self) -> bool:
        """Wait for bytes beside those that are here; False = there will be none."""
        here = len(self.held)
        if self.peer is Peer.OPEN:
            assert here < AHEAD_MAX
            self._arrived = trio.Event()
            await self._arrived.wait()
        return len(self.held) > here

    def take(self, size: int) -> bytes:
        """Remove and return at most `size` bytes."""
        data = bytes(self.held[:size])
        self.drop(size)
        return data

    def drop(self, size: int) -> None:
        """Remove bytes from the front."""
        del self.held[:size]
        self._make_room()

    def clear(self) -> None:
        """Forget what is here."""
        self.held.clear()
        self._make_room()

    def _make_room(self) -> None:
        if len(self.held) < AHEAD_MAX:
            self._room.set()
