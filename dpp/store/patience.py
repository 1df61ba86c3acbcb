"""Patience: who may hold a connection while it waits for a budget row that somebody else has.

One waiter a tenant, whatever it wants, and never on the last connections: a frozen client that
holds one tenant's row costs one connection, and the money of all others goes on moving. Only the
bridge's thread touches this.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from dpp.faults import StoreUnavailable

FREE_MIN = 2  # connections that never wait for a row: one for a lane of intake, one of the settler
WAIT_S = 8.0  # for a place: as long as an HTTP client is kept
PAUSE_S = 0.02


class Patience:
    """The places for waiting."""

    def __init__(self, connections: int) -> None:
        self._places = max(connections - FREE_MIN, 1)
        self._tenants: set[str] = set()

    @contextmanager
    def try_place(self, tenant_id: str) -> Iterator[bool]:
        """Say whether this tenant's row may be waited for now; the place is kept for the block."""
        got = tenant_id not in self._tenants and len(self._tenants) < self._places
        if got:
            self._tenants.add(tenant_id)
        try:
            yield got
        finally:
            if got:
                self._tenants.discard(tenant_id)

    async def until_free(self, tenant_id: str) -> None:
        """Wait for a place without holding anything; raises `StoreUnavailable` after `WAIT_S`."""
        give_up_at = asyncio.get_running_loop().time() + WAIT_S
        while tenant_id in self._tenants or len(self._tenants) >= self._places:
            if asyncio.get_running_loop().time() > give_up_at:
                message = f"others wait for the row of tenant {tenant_id}"
                raise StoreUnavailable(message)
            await asyncio.sleep(PAUSE_S)
