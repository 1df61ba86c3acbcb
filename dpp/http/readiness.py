"""Whether the dependencies answer: asked with a time limit, at most once a second.

Without its database a node is not ready. The others are helpers: without one it is degraded, and
requests go on coming.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

import trio

from dpp.faults import HelperUnavailable, StoreUnavailable

CACHE_S: Final = 1.0
WAIT_S: Final = 1.0  # a database that takes longer to tell its time is not ready
# Of all helpers together: who checks health often gives up after a second, and would take a node
# from the work for a helper that hangs.
HELPERS_WAIT_S: Final = 0.5

Ping: TypeAlias = Callable[[], Awaitable[None]]
NONE: Final[Mapping[str, Ping]] = MappingProxyType({})


class Look:
    """The last look at one of them. Who asks while a look is under way waits for that one."""

    def __init__(self, ping: Ping, wait_s: float = WAIT_S) -> None:
        self._ping = ping
        self._wait_s = wait_s
        self._looking = trio.Lock()
        self._looked_at = float("-inf")
        self._up = False

    async def up(self) -> bool:
        """Say whether it answers; a look of a moment ago will do."""
        async with self._looking:
            if trio.current_time() - self._looked_at >= CACHE_S:
                self._up = await self._look()
                self._looked_at = trio.current_time()
            return self._up

    async def _look(self) -> bool:
        try:
            with trio.move_on_after(self._wait_s) as limit:
                await self._ping()
        except (StoreUnavailable, HelperUnavailable):
            return False
        return not limit.cancelled_caught


class Readiness:
    """The database, and the helpers in use by the names that `/readyz` has for them."""

    def __init__(self, ping: Ping, helpers: Mapping[str, Ping] = NONE) -> None:
        self._database = Look(ping)
        self._helpers = {name: Look(one, HELPERS_WAIT_S) for name, one in helpers.items()}

    async def database_up(self) -> bool:
        """Say whether the database answers."""
        return await self._database.up()

    async def helpers_up(self) -> dict[str, bool]:
        """Say of each helper whether it answers; all are asked at once."""
        up = dict.fromkeys(self._helpers, False)

        async def ask(name: str) -> None:
            up[name] = await self._helpers[name].up()

        async with trio.open_nursery() as asking:
            for name in self._helpers:
                asking.start_soon(ask, name)
        return up
