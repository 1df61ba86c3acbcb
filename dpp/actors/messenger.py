"""The messenger: it puts a hint into the queue for each new run that is due, after its commit.

Whoever admits leaves the run's id and goes on; the messenger sends ten at a time, one request
after the other, so that hints never take more than a share of the bridge. What it has no room for,
and what it has while SQS is away, is dropped: the scan finds those runs within its interval, and by
then the hint would be old.
"""

from collections import deque
from uuid import UUID

import trio
from attrs import define, field

from dpp.actors.wake import Wake
from dpp.faults import HelperUnavailable
from dpp.metrics import sqs_messages_total
from dpp.ports import Queue

BATCH = 10  # runs in a request, as many as SQS takes
WAITING_MAX = 1000  # hints: a second or two of what is sent, after which the scan was there
# Between two requests, which take 3 ms of a processor each, in the thread that the database needs:
# a tenth of it at most. What that leaves no room for is dropped; claimers are awake then anyway.
GAP_S = 0.02
AWAY_S = 0.5  # what is dropped together while SQS is away
IDLE_S = 60.0


@define(eq=False)
class Messenger:
    """Hints that are to be sent. `queue` None = there is none."""

    queue: Queue | None
    _waiting: deque[UUID] = field(factory=deque)
    _wake: Wake = field(factory=Wake)

    def admitted(self, run_id: UUID) -> None:
        """Hear of a new run that is due."""
        if self.queue is None:
            return
        if len(self._waiting) >= WAITING_MAX:
            sqs_messages_total.labels("lost").inc()
            return
        self._waiting.append(run_id)
        self._wake.ring()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            if not self._waiting:
                await self._wake.wait(IDLE_S)
                continue
            await trio.sleep(GAP_S if await self._send() else AWAY_S)

    async def _send(self) -> bool:
        assert self.queue is not None
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        try:
            sent = await self.queue.send(batch)
        except HelperUnavailable:
            sqs_messages_total.labels("lost").inc(len(batch) + len(self._waiting))
            self._waiting.clear()
            return False  # noqa: ASYNC910 - the caller sleeps
        sqs_messages_total.labels("sent").inc(sent)
        sqs_messages_total.labels("lost").inc(len(batch) - sent)
        return True
