"""Whether the dependencies answer: asked with a time limit, at most once a second."""

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from dpp.faults import StoreUnavailable

CACHE_S: Final = 1.0
WAIT_S: Final = 1.0  # a database that takes longer to tell its time is not ready


class Readiness:
    """The last look at the database. Who asks while a look is under way waits for that one."""

    def __init__(self, ping: Callable[[], Awaitable[None]]) -> None:
        self._ping = ping
        self._looking = trio.Lock()
        self._looked_at = float("-inf")
        self._up = False

    async def database_up(self) -> bool:
        """Say whether the database answers; a look of a moment ago will do."""
        async with self._looking:
            if trio.current_time() - self._looked_at >= CACHE_S:
                self._up = await self._look()
                self._looked_at = trio.current_time()
            return self._up

    async def _look(self) -> bool:
        try:
            with trio.move_on_after(WAIT_S) as limit:
                await self._ping()
        except StoreUnavailable:
            return False
        return not limit.cancelled_caught
