"""The depths: it shows how many hints wait in the queue, and how many messages are dead letters."""

from contextlib import suppress

import trio
from attrs import define

from dpp.faults import HelperUnavailable
from dpp.logs import get_logger
from dpp.messages import Depths
from dpp.metrics import sqs_dead_letter_depth, sqs_queue_depth
from dpp.ports import Queue

LOOK_S = 60.0  # between two looks: each is three requests, and nothing hangs on the figures

log = get_logger(__name__)


@define(eq=False)
class DepthGauge:
    """What looks, and remembers what it warned of."""

    queue: Queue
    name: str  # of the queue, as it stands in its URL
    _dead: int | None = 0

    async def run(self) -> None:
        """Look until cancelled; while SQS is away the last figures stand."""
        while True:
            with suppress(HelperUnavailable):
                self._show(await self.queue.depths())
            await trio.sleep(LOOK_S)

    def _show(self, now: Depths) -> None:
        before, self._dead = self._dead, now.dead
        sqs_queue_depth.labels(self.name).set(now.waiting)
        sqs_dead_letter_depth.set(now.dead or 0)
        if now.dead is None:
            if before is not None:
                log.warning("no dead-letter queue")
        elif now.dead > (before or 0):
            log.warning("dead letters", messages=now.dead)
