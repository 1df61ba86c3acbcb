"""The poller on a queue in memory: what it deletes and when, whom it wakes, what it leaves."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock

from dpp.actors.depths import LOOK_S, DepthGauge
from dpp.actors.poller import FULL_S, Poller
from dpp.messages import encode
from dpp.metrics import sqs_dead_letter_depth, sqs_queue_depth
from tests.actors.world import PLANS
from tests.fake_queue import RECEIVES_MAX, VISIBILITY_S, WAIT_S, FakeQueue
from tests.fake_store import FakeStore
from tests.store.examples import DOLLAR, run_id, submission
from tests.store.steps import create, make_tenant, settle, submit

# What may lie in a queue and is no hint of a run.
POISON = (
    "",
    "no json",
    "[]",
    "null",
    '"run"',
    "{}",
    '{"v":1}',
    f'{{"v":2,"run_id":"{run_id()}"}}',
    f'{{"v":true,"run_id":"{run_id()}"}}',
    '{"v":1,"run_id":7}',
    f'{{"v":1,"run_id":"{{{run_id()}}}"}}',
    f'{{"v":1,"run":"{run_id()}"}}',
    "[" * 900,
    f'{{"v":1,"run_id":"{run_id()}","more":"{"x" * 1000}"}}',
    encode(run_id()),  # of no run
)
SOON_S = 1.0


@define(eq=False)
class Scene:
    """A poller, its queue, the store, and the tenants that the claimer heard of."""

    queue: FakeQueue
    store: FakeStore
    heard: list[str] = field(factory=list)
    full: bool = False


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    scene = Scene(FakeQueue(), FakeStore(PLANS))
    for tenant_id in ("acme", "other"):
        await make_tenant(scene.store, tenant_id, deposit=200 * DOLLAR)
    poller = Poller(
        queue=scene.queue,
        store=scene.store,
        heard=scene.heard.append,
        full=lambda: scene.full,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        yield scene
        nursery.cancel_scope.cancel()


async def test_a_hint_wakes_the_claimer_for_its_tenant_and_is_deleted(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        for tenant_id in ("acme", "other"):
            await scene.queue.send([(await create(scene.store, tenant_id)).run_id])
        await trio.sleep(SOON_S)

        assert set(scene.heard) == {"acme", "other"}
        assert scene.queue.lying == {}


async def test_a_hint_of_a_run_that_does_not_wait_is_deleted_as_well(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        store = scene.store
        ended = await settle(store)
        an_hour_on = evolve(submission("acme"), run_at=store.now().replace(hour=23))
        await submit(store, an_hour_on)
        await scene.queue.send([ended, an_hour_on.run_id])
        await trio.sleep(SOON_S)

        assert scene.queue.lying == {}
        assert scene.heard == []


async def test_nothing_is_deleted_before_its_row_was_read(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        one = await create(scene.store)
        scene.store.faults.down = True
        await scene.queue.send([one.run_id])
        await trio.sleep(10 * SOON_S)
        kept = [lying.body for lying in scene.queue.lying.values()]
        scene.store.faults.down = False
        await trio.sleep(2 * SOON_S)

        assert kept == [encode(one.run_id)]
        assert scene.heard == ["acme"]
        assert scene.queue.lying == {}


async def test_an_outage_of_the_database_makes_no_dead_letters(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        runs = [(await create(scene.store)).run_id for _ in range(100)]
        scene.store.faults.down = True
        for start in range(0, 100, 10):
            await scene.queue.send(runs[start : start + 10])
        await trio.sleep(10 * VISIBILITY_S)
        scene.store.faults.down = False
        await trio.sleep(2 * VISIBILITY_S)

        assert scene.queue.dead == []
        assert scene.queue.lying == {}


async def test_what_names_no_run_stays_and_is_a_dead_letter_after_three_times(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        for body in POISON:
            scene.queue.put(body)
        await scene.queue.send([(await create(scene.store)).run_id])
        await trio.sleep((RECEIVES_MAX - 0.5) * VISIBILITY_S)
        alive = [(lying.body, lying.receives) for lying in scene.queue.lying.values()]
        await trio.sleep(2 * VISIBILITY_S)

        assert alive == [(body, RECEIVES_MAX) for body in POISON]
        assert sorted(scene.queue.dead) == sorted(POISON)
        assert scene.queue.lying == {}
        assert scene.heard == ["acme"]  # their neighbour was read


async def test_what_sqs_does_not_delete_is_read_again_and_does_no_harm(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        ended = await settle(scene.store)
        scene.queue.deaf = True
        await scene.queue.send([ended])
        await trio.sleep(VISIBILITY_S / 2)
        left = [lying.receives for lying in scene.queue.lying.values()]
        scene.queue.deaf = False
        await trio.sleep(VISIBILITY_S)

        assert left == [1]
        assert (scene.queue.lying, scene.queue.dead, scene.heard) == ({}, [], [])


async def test_after_an_outage_of_sqs_hints_are_taken_again(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        one = await create(scene.store)
        await scene.queue.send([one.run_id])
        scene.queue.away = True
        await trio.sleep(100)
        scene.queue.away = False
        await trio.sleep(2 * SOON_S)

        assert scene.heard == ["acme"]


async def test_a_full_node_leaves_hints_to_the_others_for_a_while(
    autojump_clock: MockClock,
) -> None:
    async with open_scene() as scene:
        scene.full = True
        one = await create(scene.store)
        await scene.queue.send([one.run_id])
        await trio.sleep(FULL_S / 2)
        left = [lying.receives for lying in scene.queue.lying.values()]
        scene.full = False
        await trio.sleep(SOON_S)
        then = [*scene.heard]
        scene.full = True
        await scene.queue.send([one.run_id])
        await trio.sleep(WAIT_S + FULL_S + SOON_S)

        assert left == [0]
        assert then == ["acme"]
        assert scene.queue.lying == {}  # full for long, it takes some as well


@pytest.mark.parametrize("seed", range(5))
async def test_doubles_disorder_delay_and_loss_end_with_an_empty_queue_and_no_dead_letter(
    seed: int, autojump_clock: MockClock
) -> None:
    print(f"seed {seed}")  # noqa: T201 - pytest shows it where a test fails
    async with open_scene() as scene:
        dice = random.Random(seed)
        queue = scene.queue
        queue.dice, queue.loss, queue.doubles, queue.delay_s = dice, 0.1, 9, 60.0
        runs = [(await create(scene.store)).run_id for _ in range(100)]
        for start in range(0, 100, 10):
            await queue.send(runs[start : start + 10])
        sent = len(queue.lying)
        await trio.sleep(2 * VISIBILITY_S)

        assert sent > 300
        assert (queue.lying, queue.dead) == ({}, [])
        assert set(scene.heard) == {"acme"}


async def test_depths_are_shown_and_what_is_dead_is_warned_of(autojump_clock: MockClock) -> None:
    queue = FakeQueue()
    queue.put("waits")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(DepthGauge(queue, "runs").run)
        await trio.sleep(1)
        first = sqs_queue_depth.labels("runs")._value.get(), sqs_dead_letter_depth._value.get()
        queue.dead.append("dead")
        queue.away = True
        await trio.sleep(LOOK_S)
        away = sqs_queue_depth.labels("runs")._value.get(), sqs_dead_letter_depth._value.get()
        queue.away = False
        await trio.sleep(LOOK_S)
        last = sqs_queue_depth.labels("runs")._value.get(), sqs_dead_letter_depth._value.get()
        nursery.cancel_scope.cancel()

    assert (first, away, last) == ((1, 0), (1, 0), (1, 1))
