"""Patience: who may hold a connection while it waits for a budget row that somebody else has.

One waiter a tenant, whatever it wants, and never on the last connections: a frozen client that
holds one tenant's row costs one connection, and the money of all others goes on moving. Only the
bridge's thread touches this.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from attrs import define, field

from dpp.faults import StoreUnavailable

FREE_MIN = 2  # connections that never wait for a row: one for a lane of intake, one of the settler
WAIT_S = 8.0  # for a place: as long as an HTTP client is kept
ASKING_MAX = 100  # cancels and transfers of one tenant: a third of what a small pool may hold
WAITERS_MAX = 100  # of one tenant for its row


@define(eq=False)
class Turn:
    """Whose turn it is to wait for one tenant's row, in order of arrival."""

    lock: asyncio.Lock = field(factory=asyncio.Lock)
    waiters: int = 0


class Patience:
    """The places for waiting."""

    def __init__(self, connections: int) -> None:
        self._places = asyncio.Semaphore(max(connections - FREE_MIN, 1))
        self._turns: dict[str, Turn] = {}
        self._asking: Counter[str] = Counter()

    @asynccontextmanager
    async def try_place(self, tenant_id: str) -> AsyncIterator[bool]:
        """Say whether this tenant's row may be waited for now; the place is kept for the block."""
        if tenant_id in self._turns or self._places.locked():
            yield False
            return
        with self._turn(tenant_id) as turn:
            async with turn.lock, self._places:  # both are free: nothing is waited for
                yield True

    @asynccontextmanager
    async def place(self, tenant_id: str) -> AsyncIterator[None]:
        """Wait for a place without holding anything; raises `StoreUnavailable` where it is long."""
        with self._turn(tenant_id) as turn:
            try:
                async with asyncio.timeout(WAIT_S):
                    await turn.lock.acquire()
                    try:
                        await self._places.acquire()
                    except BaseException:
                        turn.lock.release()
                        raise
            except TimeoutError as error:
                raise StoreUnavailable(f"others wait for the row of tenant {tenant_id}") from error
            try:
                yield
            finally:
                self._places.release()
                turn.lock.release()

    @contextmanager
    def asking(self, tenant_id: str) -> Iterator[None]:
        """Count what asks for one tenant's row, waiting or not; raises where it is too much."""
        if self._asking[tenant_id] >= ASKING_MAX:
            raise StoreUnavailable(f"too much asks for the row of tenant {tenant_id}")
        self._asking[tenant_id] += 1
        try:
            yield
        finally:
            self._asking[tenant_id] -= 1
            if not self._asking[tenant_id]:
                del self._asking[tenant_id]

    @contextmanager
    def _turn(self, tenant_id: str) -> Iterator[Turn]:
        turn = self._turns.setdefault(tenant_id, Turn())
        if turn.waiters >= WAITERS_MAX:
            raise StoreUnavailable(f"too many wait for the row of tenant {tenant_id}")
        turn.waiters += 1
        try:
            yield turn
        finally:
            turn.waiters -= 1
            if not turn.waiters:
                del self._turns[tenant_id]
