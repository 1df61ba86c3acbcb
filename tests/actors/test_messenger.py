"""The messenger on a queue in memory: a hint a run, ten in a request, bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import trio
from trio.testing import MockClock

from dpp.actors.messenger import AWAY_S, WAITING_MAX, Messenger
from dpp.metrics import sqs_messages_total
from tests.fake_queue import FakeQueue

RUNS = [UUID(int=n) for n in range(2 * WAITING_MAX)]


@asynccontextmanager
async def sending(queue: FakeQueue) -> AsyncIterator[Messenger]:
    messenger = Messenger(queue)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(messenger.run)
        yield messenger
        nursery.cancel_scope.cancel()


def counted(outcome: str) -> float:
    return float(sqs_messages_total.labels(outcome)._value.get())


async def test_each_run_is_sent_once_ten_in_a_request(autojump_clock: MockClock) -> None:
    queue = FakeQueue()
    async with sending(queue) as messenger:
        for run_id in RUNS[:25]:
            messenger.admitted(run_id)
        await trio.sleep(1)
        messenger.admitted(RUNS[25])
        await trio.sleep(1)

    assert queue.sent == [RUNS[:10], RUNS[10:20], RUNS[20:25], [RUNS[25]]]


async def test_what_there_is_no_room_for_is_lost_and_counted(autojump_clock: MockClock) -> None:
    queue, lost = FakeQueue(), counted("lost")
    async with sending(queue) as messenger:
        for run_id in RUNS[: WAITING_MAX + 5]:
            messenger.admitted(run_id)
        await trio.sleep(10)

    assert [one for batch in queue.sent for one in batch] == RUNS[:WAITING_MAX]
    assert counted("lost") - lost == 5


async def test_while_sqs_is_away_hints_are_dropped_and_later_ones_are_sent(
    autojump_clock: MockClock,
) -> None:
    queue, lost = FakeQueue(away=True), counted("lost")
    async with sending(queue) as messenger:
        for run_id in RUNS[:25]:
            messenger.admitted(run_id)
        await trio.sleep(2 * AWAY_S)
        queue.away = False
        messenger.admitted(RUNS[25])
        await trio.sleep(2 * AWAY_S)

    assert queue.sent == [[RUNS[25]]]
    assert counted("lost") - lost == 25


async def test_without_a_queue_nothing_is_kept() -> None:
    messenger = Messenger(None)

    for run_id in RUNS:
        messenger.admitted(run_id)

    assert not messenger._waiting
    await trio.lowlevel.checkpoint()
