"""The store on PostgreSQL: every verb, and where it is asked.

Lock order of every transaction: node_leases → tenant_turns → budgets (by tenant) → live_runs (by
run) → tenants, nodes, findings → inserts, usage last. All row locks are `for no key update`, but
for the claim's key share on its lease row and the `for update` that ends or asks for one.
Allowances have no place in it: only who holds their tenant's budget changes one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from dpp.store.bridge import Bridge
from dpp.store.connections import Address
from dpp.store.desk import Desk, Sizes
from dpp.store.for_nodes import ForNodes
from dpp.store.for_operators import ForOperators
from dpp.store.for_tenants import ForTenants
from dpp.store.verbs import Limits

CLOSE_S = 1.0  # it waits for nothing but the bridge's next turn


class PostgresStore(ForNodes, ForTenants, ForOperators):
    """Implements `dpp.ports.Store`. Made by `open_postgres`; every method runs on the bridge."""

    async def close(self) -> None:
        """Drop every idle connection."""
        await self._desk.close()


@asynccontextmanager
async def open_postgres(
    bridge: Bridge, address: Address, auditor: Address, sizes: Sizes, limits: Limits
) -> AsyncIterator[PostgresStore]:
    """Give a store whose connections are opened when first needed."""
    store = PostgresStore(Desk(bridge, address, auditor, sizes), limits)
    try:
        yield store
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await store.close()
