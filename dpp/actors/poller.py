"""The poller: it takes hints out of the queue, reads the rows of their runs, and wakes the claimer.

A message is deleted once its run's row was read, whatever the row says: the row is the truth, and
the hint has done its work. While the database is away the messages in hand are kept, and no others
are taken. A message that cannot be read, or names no run, is left; it comes again, and after the
third time SQS puts it among the dead letters.
"""

import random
from collections.abc import Callable, Sequence
from uuid import UUID

import trio
from attrs import frozen

from dpp.faults import HelperUnavailable, StoreUnavailable
from dpp.logs import get_logger
from dpp.messages import Message, Sighting, decode
from dpp.metrics import sqs_messages_total
from dpp.ports import Queue, Sightings

AGAIN_S = 1.0  # between two tries while SQS is away, or the database
EMPTY_S = 0.25  # after a poll that brought nothing, in case one does not wait as it should
LOOK_S = 0.1  # between two looks whether this node has places again
FULL_S = 20.0  # so long a full node leaves hints to the others, and then takes some as well
SHOWN_MAX = 200  # characters of a message that is no hint

log = get_logger(__name__)


@frozen(kw_only=True)
class Poller:
    """What takes hints out. `heard`: of a tenant with queued runs; `full`: no place for one."""

    queue: Queue
    store: Sightings
    heard: Callable[[str], object]
    full: Callable[[], bool]

    async def run(self) -> None:
        """Take hints out until cancelled."""
        while True:
            await self._have_place()
            try:
                messages = await self.queue.receive()
            except HelperUnavailable:
                await pause()
                continue
            if messages:
                await self._take(messages)
            else:
                await trio.sleep(EMPTY_S)

    async def _have_place(self) -> None:
        """Wait while this node is full: what it takes out, others cannot."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(FULL_S):
            await trio.lowlevel.checkpoint()
            while self.full():  # noqa: ASYNC110 - it is full and free again many times a second
                await trio.sleep(LOOK_S)

    async def _take(self, messages: Sequence[Message]) -> None:
        named = [(message, decode(message.body)) for message in messages]
        run_ids = {run_id for _, run_id in named if run_id is not None}
        sighted = {one.run_id: one for one in await self._sight(sorted(run_ids))}
        for tenant_id in {one.tenant_id for one in sighted.values() if one.waits}:
            self.heard(tenant_id)
        done = [message for message, run_id in named if run_id in sighted]
        note([message for message, run_id in named if run_id not in sighted])
        sqs_messages_total.labels("read").inc(len(done))
        if done:
            try:
                await self.queue.delete(done)
            except HelperUnavailable:
                await pause()  # they come again, and are read again

    async def _sight(self, run_ids: Sequence[UUID]) -> list[Sighting]:
        """Read the rows, however long the database is away: what was not read is not deleted."""
        await trio.lowlevel.checkpoint()
        while run_ids:
            try:
                return await self.store.sight_runs(run_ids)
            except StoreUnavailable:
                await pause()
        return []


async def pause() -> None:
    """Wait before the next try."""
    await trio.sleep(AGAIN_S * random.uniform(0.5, 1.0))


def note(left: Sequence[Message]) -> None:
    """Count the messages that are left, and show one."""
    sqs_messages_total.labels("unread").inc(len(left))
    if left:
        log.warning("no hint", messages=len(left), one=left[0].body[:SHOWN_MAX])
