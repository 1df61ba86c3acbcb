"""The herald: it tells the other nodes what happened here, over Redis.

Whoever has news leaves it and goes on; the herald tells all of it in one bulletin, and what comes
meanwhile in the next. While Redis is away news are dropped: they are hints, and soon old. What they
would have told is found by polling.
"""

import secrets
from uuid import UUID

import trio
from attrs import define, field

from dpp import hints
from dpp.actors.wake import Wake
from dpp.faults import HelperUnavailable
from dpp.hints import News
from dpp.metrics import hints_total
from dpp.ports import Channel

GAP_S = 0.005  # between two bulletins: of a busy node one carries what a whole commit ended
AWAY_S = 0.5  # what is dropped together, and counted as one, while Redis is away
IDLE_S = 60.0


@define(eq=False)
class Herald:
    """What is to be told. `channel` None = there is nobody to tell."""

    channel: Channel | None
    name: str = field(factory=lambda: secrets.token_hex(8))  # of this process, to know itself by
    _news: News = field(factory=News)
    _wake: Wake = field(factory=Wake)

    def queued(self, tenant_id: str) -> None:
        """Tell that a tenant has more due runs than this node takes."""
        if self.channel is not None and hints.add(self._news.queued, tenant_id):
            self._wake.ring()

    def changed(self, run_id: UUID) -> None:
        """Tell that there is news of a run."""
        if self.channel is not None and hints.add(self._news.runs, run_id):
            self._wake.ring()

    def key_ended(self, key_id: str) -> None:
        """Tell that a key may have ended."""
        if self.channel is not None and hints.add(self._news.keys, key_id):
            self._wake.ring()

    def used_up(self, tenant_id: str, limit: int, until_ms: int) -> None:
        """Tell that a tenant's submits are used up."""
        if self.channel is not None and hints.add(self._news.used_up, tenant_id, (limit, until_ms)):
            self._wake.ring()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            if not self._news:
                await self._wake.wait(IDLE_S)
                continue
            await trio.sleep(GAP_S if await self._tell() else AWAY_S)

    async def _tell(self) -> bool:
        assert self.channel is not None
        bulletin = self._news.take()
        try:
            await self.channel.publish(hints.encode(bulletin, self.name))
        except HelperUnavailable:
            hints_total.labels("lost").inc()
            self._news = News()
            return False  # noqa: ASYNC910 - the caller sleeps
        hints_total.labels("told").inc()
        return True
