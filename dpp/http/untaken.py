"""Bodies that the peer of one connection has yet to take: how many, and how much they hold.

Over HTTP/2 a peer may ask for a hundred answers at once and let none of them through, so what they
hold together is bounded for a connection; one alone may always be as large as it is. Past the bound
an answer that has not begun is replaced by a 503: what was asked may be asked again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

UNTAKEN_MAX: Final = 8 * 1024 * 1024  # bytes: eight of the largest pages
SMALL: Final = 64 * 1024  # is always taken: a hundred of them hold less than that


class Untaken:
    """Counts them."""

    def __init__(self) -> None:
        self.bodies = 0
        self._bytes = 0

    def has_room(self, size: int) -> bool:
        """Say whether one more may be held."""
        return size <= SMALL or self._bytes == 0 or self._bytes + size <= UNTAKEN_MAX

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Count one for the length of this."""
        self.bodies += 1
        self._bytes += size
        try:
            yield
        finally:
            self.bodies -= 1
            self._bytes -= size
