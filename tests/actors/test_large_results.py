"""Results too large for a row: stored first, then settled, whatever dies or is away in between."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
from attrs import evolve
from trio.testing import MockClock

from dpp.blobs import BlobKey, Content, Label
from dpp.cancels import CancelAsked
from dpp.leases import Fence
from dpp.money import Micros
from dpp.runs import ErrorCode, Status
from tests.actors.test_node import forget, serving, until_ended
from tests.actors.world import INTERVAL_S, LEASE_S, STORE_WAIT_S, World, asked
from tests.fake_audit import audit
from tests.fake_faults import Fault

CENTS = 50_000
LARGE = {"message": "x" * 90, "cost_usd": "0.05"}
BODY = b'{"message":"' + b"x" * 90 + b'"}'
GONE_S = LEASE_S + 2 * INTERVAL_S


async def submit_large(world: World) -> UUID:
    return await world.submit(asked(inputs=LARGE))


def key_of(world: World, run_id: UUID) -> BlobKey:
    """Return the key of the last attempt's object."""
    row = world.store.rows.submissions[run_id]
    run = world.run(run_id)
    lease_id = UUID(int=0)
    return BlobKey.of("acme", row.created_at, Fence(run_id, lease_id, run.lease_epoch))


async def until_storing(world: World, run_id: UUID) -> None:
    """Return when the run is marked and its object was asked for."""
    with trio.fail_after(10):
        live = world.store.rows.live[run_id]
        await trio.lowlevel.checkpoint()
        while not (live.storing and "put" in world.blobs.asked):  # noqa: ASYNC110
            await trio.sleep(0.01)  # of a virtual clock


async def left_storing(world: World) -> UUID:
    """Run a node that dies while a result is stored, in vain."""
    world.blobs.away = "the disk hangs"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve)
        run_id = await submit_large(world)
        await until_storing(world, run_id)
        forget(world, nursery)
    return run_id


async def put_late(world: World, run_id: UUID, body: bytes = BODY, cost: int = CENTS) -> None:
    """Store the object that the dead node's attempt was about to store."""
    live = world.store.rows.live[run_id]
    assert live.lease_id is not None
    label = Label(lease_id=live.lease_id, pack_type="echo", cost=Micros(cost))
    await world.blobs.put(key_of(world, run_id), label, body)


async def test_a_large_result_is_stored_and_its_run_points_to_it(
    autojump_clock: MockClock,
) -> None:
    world = World()
    await world.tenant()

    async with serving(world):
        run_id = await submit_large(world)
        await until_ended(world, run_id)

    run = world.run(run_id)
    assert (run.status, run.actual_cost, run.result) == (Status.COMPLETED, CENTS, None)
    assert run.result_key == key_of(world, run_id).name
    there = await world.blobs.read(key_of(world, run_id))
    assert isinstance(there, Content)
    assert (there.body, there.metadata.sha256) == (BODY, run.result_sha256)


async def test_a_cancel_after_the_pack_returned_changes_nothing(autojump_clock: MockClock) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    world.blobs.away = "for a while"

    async with serving(world):
        run_id = await submit_large(world)
        await until_storing(world, run_id)
        assert isinstance(await world.store.cancel_run("acme", run_id), CancelAsked)
        await trio.sleep(5)
        world.blobs.away = ""
        await until_ended(world, run_id)

    assert (world.run(run_id).status, world.run(run_id).actual_cost) == (Status.COMPLETED, CENTS)


async def test_a_store_that_is_away_too_long_costs_the_client_nothing(
    autojump_clock: MockClock,
) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    world.blobs.away = "no space"

    async with serving(world):
        run_id = await submit_large(world)
        await until_ended(world, run_id, within_s=4 * STORE_WAIT_S)

    run = world.run(run_id)
    assert run.failure is not None
    assert (run.status, run.failure.code, run.actual_cost) == (
        Status.FAILED,
        ErrorCode.STORE_UNAVAILABLE,
        0,
    )
    assert run.attempt == 3


async def test_another_object_under_the_key_requeues_the_attempt(autojump_clock: MockClock) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    one = asked(inputs=LARGE)

    async with serving(world):
        first = BlobKey.of("acme", world.store.now(), Fence(one.run_id, one.run_id, 1))
        await world.blobs.put(
            first, Label(lease_id=one.run_id, pack_type="x", cost=Micros(1)), b"1"
        )
        await world.submit(one)
        await until_ended(world, one.run_id)

    run = world.run(one.run_id)
    assert (run.status, run.lease_epoch, run.attempt) == (Status.COMPLETED, 2, 2)


async def test_what_a_dead_node_had_stored_is_settled(autojump_clock: MockClock) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    run_id = await left_storing(world)
    world.blobs.away = ""
    await put_late(world, run_id)

    after = world.restarted()
    async with serving(after):
        await until_ended(after, run_id, within_s=GONE_S)

    run = after.run(run_id)
    assert (run.status, run.actual_cost, run.lease_epoch) == (Status.COMPLETED, CENTS, 1)
    assert run.result_key == key_of(after, run_id).name


async def test_what_a_dead_node_had_not_stored_is_tried_again(autojump_clock: MockClock) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    run_id = await left_storing(world)
    world.blobs.away = ""

    after = world.restarted()
    async with serving(after):
        await until_ended(after, run_id, within_s=GONE_S)

    run = after.run(run_id)
    assert (run.status, run.actual_cost, run.lease_epoch, run.attempt) == (
        Status.COMPLETED,
        CENTS,
        2,
        2,
    )
    assert after.store.rows.findings == []


@pytest.mark.parametrize("wrong", ["body", "cost", "lease"])
async def test_what_is_not_the_attempts_object_settles_nothing_and_is_a_finding(
    autojump_clock: MockClock, wrong: str
) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    run_id = await left_storing(world)
    world.blobs.away = ""
    live = world.store.rows.live[run_id]
    if wrong == "lease":
        world.store.rows.live[run_id] = evolve(live, lease_id=UUID(int=7))
    await put_late(world, run_id, cost=100_001 if wrong == "cost" else CENTS)
    world.store.rows.live[run_id] = live
    if wrong == "body":
        world.blobs.damage(key_of(world, run_id))

    after = world.restarted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(after.serve)
        await until_ended(after, run_id, within_s=GONE_S)
        after.stopping.begin("the test is over")

    run = after.run(run_id)
    assert (run.status, run.actual_cost, run.attempt) == (Status.COMPLETED, CENTS, 2)
    (finding,) = after.store.rows.findings
    assert (finding.invariant, finding.subject) == ("object_not_verified", str(run_id))
    assert not after.store.rows.tenants["acme"].frozen


async def test_a_store_that_cannot_be_asked_decides_nothing_and_a_person_is_told(
    autojump_clock: MockClock,
) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    run_id = await left_storing(world)

    after = world.restarted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(after.serve)
        await trio.sleep(STORE_WAIT_S - INTERVAL_S)
        assert after.store.rows.findings == []
        await trio.sleep(4 * INTERVAL_S)
        (finding,) = after.store.rows.findings
        assert (finding.invariant, after.run(run_id).status) == (
            "object_not_asked",
            Status.PROCESSING,
        )
        await trio.sleep(1000)
        assert after.run(run_id).status is Status.PROCESSING
        assert len(after.store.rows.findings) == 1
        after.blobs.away = ""
        await put_late(after, run_id)
        await until_ended(after, run_id, within_s=2 * INTERVAL_S)
        after.stopping.begin("the test is over")

    assert (after.run(run_id).actual_cost, after.run(run_id).attempt) == (CENTS, 1)


async def test_a_mark_that_the_database_refuses_ends_no_other_run(
    autojump_clock: MockClock,
) -> None:
    world = World()
    await world.tenant()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve)
        slow = await world.submit(asked(inputs={"sleep_s": 20}))
        await trio.sleep(1)
        world.store.faults.fail("mark_storing", Fault(RuntimeError("refused by a constraint")))
        large = await submit_large(world)
        await until_ended(world, large, within_s=5)
        await until_ended(world, slow, within_s=30)
        world.stopping.begin("the test is over")

    assert (world.run(large).status, world.run(large).attempt) == (Status.COMPLETED, 2)
    assert (world.run(slow).status, world.run(slow).attempt) == (Status.COMPLETED, 1)
    assert audit(world.store.rows).ok


async def test_a_person_is_told_although_postgresql_is_away_for_moments(
    autojump_clock: MockClock,
) -> None:
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    await left_storing(world)

    after = world.restarted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(after.serve)
        for _ in range(4):
            await trio.sleep(STORE_WAIT_S * 0.75)
            with after.store.faults.outage():
                await trio.sleep(1.2 * INTERVAL_S)
        (finding,) = after.store.rows.findings
        after.stopping.begin("the test is over")
        nursery.cancel_scope.cancel()

    assert finding.invariant == "object_not_asked"


async def test_a_run_that_the_database_refuses_stops_no_other(autojump_clock: MockClock) -> None:
    world = World()
    await world.tenant()
    await world.tenant("other")
    world.blobs.known = await world.blobs.identify(None)
    world.blobs.away = "the disk hangs"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve)
        bad = await submit_large(world)
        good = await world.submit(asked("other", inputs=LARGE))
        for run_id in (bad, good):
            await until_storing(world, run_id)
        forget(world, nursery)
    world.blobs.away = ""
    world.store.faults.poisoned.add(bad)

    after = world.restarted()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(after.serve)
        await until_ended(after, good, within_s=GONE_S)
        await trio.sleep(2 * INTERVAL_S)
        after.stopping.begin("the test is over")

    assert after.store.rows.live[bad].quarantined
    assert after.store.rows.tenants["acme"].frozen


async def test_a_late_mark_of_a_frozen_node_is_refused(autojump_clock: MockClock) -> None:
    """Its run was taken back meanwhile: it stores nothing, and settles nothing."""
    world = World()
    await world.tenant()
    world.blobs.known = await world.blobs.identify(None)
    world.store.faults.fail("mark_storing", Fault(before_s=2 * LEASE_S), nth=1)
    world.store.faults.fail("renew_lease", Fault(before_s=float("inf")), nth=1)
    second = World(world.store, world.blobs, node_id="node-2")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve)
        run_id = await submit_large(world)
        await trio.sleep(1)
        nursery.start_soon(second.serve)
        await until_ended(world, run_id, within_s=3 * LEASE_S)
        await trio.sleep(2 * LEASE_S)
        for node in (world, second):
            node.stopping.begin("the test is over")

    assert (world.run(run_id).lease_epoch, len(world.blobs.objects)) == (2, 1)
    assert audit(world.store.rows).ok
