"""The rate of reads: counted by all nodes together where Redis is there, else by each its share.

Redis is asked only while this node knows of no reason to refuse, and it only narrows: a node counts
what it let in as well, so a counter that was lost (evicted, flushed, a Redis that began empty) does
not give it more than the whole limit. Where Redis says nothing the node goes on with its share.
"""

import trio
from attrs import define, evolve, field

from dpp.admission import Window
from dpp.faults import HelperUnavailable
from dpp.http.limits import Windows
from dpp.neighbours import share
from dpp.ports import Counted, SharedCounts


@define(eq=False)
class Reading:
    """`shared`: where nodes count together; None = nowhere."""

    shared: SharedCounts | None = None
    _here: Windows = field(factory=Windows)

    async def take(self, tenant_id: str, limit: int, living: int) -> tuple[bool, Window]:
        """Count a read unless the limit is reached; say whether, and how the window is then.

        `living`: the nodes among which the limit is shared where they cannot count together.
        """
        window = self._here.look(tenant_id, limit)
        if window.remaining == 0:
            await trio.lowlevel.checkpoint()
            return False, window
        asked_at = trio.current_time()
        counted = await self._count(tenant_id)
        if counted is None:
            return self._here.take(tenant_id, share(limit, living))
        ends_at = asked_at + counted.left_s  # at the latest when the counter ends
        if counted.count > limit:
            # Until then nobody is asked again.
            self._here.count(tenant_id, ends_at=ends_at, many=window.remaining)
            return False, self._here.look(tenant_id, limit)
        self._here.count(tenant_id, ends_at=ends_at)
        here = self._here.look(tenant_id, limit)
        return True, evolve(here, remaining=min(here.remaining, limit - counted.count))

    async def _count(self, tenant_id: str) -> Counted | None:
        if self.shared is None:
            await trio.lowlevel.checkpoint()
            return None
        try:
            return await self.shared.count(f"reads:{tenant_id}")
        except HelperUnavailable:
            return None
