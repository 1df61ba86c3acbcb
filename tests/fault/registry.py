"""Where a mailroom looks events up: in the database itself, past the wires, as superuser.

A few connections, each of one question at a time. One that failed is never used again.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import trio
from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpp.store.bridge import Bridge

CONNECTIONS = 4  # so that an event is looked up when it comes, and not after all others
LOOK_S = 0.2
CONNECT_S = 5.0
# What PostgreSQL's end is, at whatever moment it comes.
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

ROW = """
select d.status, exists (select from dpp.endings e where e.run_id = d.run_id) as ended
  from dpp.webhook_deliveries d where d.delivery_id = $1::uuid
"""


@define(eq=False)
class Registry:
    """Asks on connections of its own."""

    bridge: Bridge
    host: str
    _idle: list[asyncpg.Connection[Any]] = field(factory=list)
    _free: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(CONNECTIONS))

    async def look(self, delivery_id: str, within_s: float) -> Sequence[Any] | None:
        """Return an event's row, or no row; None = PostgreSQL was away for so long.

        Asked as soon as it is there again: what had not committed when it died never will.
        """
        with trio.move_on_after(within_s):
            async with self._free:
                while True:
                    with suppress(*AWAY):
                        return await self._ask(delivery_id)
                    await trio.sleep(LOOK_S)
        return None

    async def _ask(self, delivery_id: str) -> Sequence[Any]:
        connection = self._idle.pop() if self._idle else await self.bridge.run(self._connect)
        rows: Sequence[Any] = await self.bridge.run(partial(connection.fetch, ROW, delivery_id))
        self._idle.append(connection)
        return rows

    async def _connect(self) -> asyncpg.Connection[Any]:
        return await asyncpg.connect(
            host=self.host, user="postgres", database="dpp", timeout=CONNECT_S
        )

    async def close(self) -> None:
        """Let go of all connections."""
        for connection in self._idle:
            await self.bridge.run(connection.close)
