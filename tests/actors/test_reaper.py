from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from dpp.actors import reaper as module
from dpp.actors.batches import Refusals
from dpp.actors.reaper import Calm, Passing, step
from dpp.actors.supervisor import supervise
from dpp.claims import Claim, Seen, Turn
from dpp.leases import Lapse, NodeLease
from dpp.live import Live, Pace
from dpp.runs import ErrorCode, Status
from tests.actors.world import INTERVAL_S, LEASE_S, PLANS, World, asked
from tests.fake_audit import audit
from tests.fake_faults import Fault
from tests.fake_rows import LiveRow
from tests.fake_store import FakeStore

QUEUE_TTL_S = 1000
PAGE = 10


@define(eq=False)
class Scene:
    """A store with runs of a node that is gone, and one reaper."""

    world: World
    store: FakeStore

    @property
    def reaping(self) -> Passing:
        return Passing(self.store, Live(Pace(5.0, PAGE)), LEASE_S, Refusals(), list)

    async def claimed(self, runs: int = 1, *, lease_s: float = LEASE_S) -> list[UUID]:
        """Submit runs and claim them for a node that will not be heard of again."""
        batch = [asked() for _ in range(runs)]
        await self.store.submit_runs(batch, wait=True)
        lease = NodeLease(uuid4(), "gone")
        await self.store.take_lease(lease, lease_s=lease_s, hand_back=())
        claim = Claim(lease=lease, turns=(Turn("acme", runs),), packs=("echo",))
        await self.store.claim_runs(claim)
        return [submission.run_id for submission in batch]

    def live(self, run_id: UUID) -> LiveRow:
        return self.store.rows.live[run_id]

    def waiting(self) -> list[UUID]:
        return [row.run_id for row in self.store.rows.live.values() if row.lease_id is None]


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    store = FakeStore(PLANS, queue_ttl_s=QUEUE_TTL_S)
    world = World(store)
    await world.tenant()
    yield Scene(world, store)
    assert all(not verdict.offenders for verdict in audit(store.rows).verdicts)


@asynccontextmanager
async def reaping() -> AsyncIterator[Scene]:
    """Run the reaper meanwhile."""
    async with scene() as one, trio.open_nursery() as nursery:
        nursery.start_soon(one.world.reap)
        yield one
        nursery.cancel_scope.cancel()


# one pass


async def test_runs_of_a_lapsed_lease_wait_again_with_the_attempt_spent(
    autojump_clock: MockClock,
) -> None:
    async with scene() as one:
        (run_id,) = await one.claimed()
        await trio.sleep(LEASE_S + 0.1)

        leases, taken = await one.reaping.take_back(is_calm=True)

        assert (leases, taken) == (1, 1)
        live = one.live(run_id)
        assert (live.lease_id, live.attempts_spent, live.lease_epoch) == (None, 1, 1)


async def test_runs_of_a_living_lease_are_left_alone(autojump_clock: MockClock) -> None:
    async with scene() as one:
        (run_id,) = await one.claimed()
        await trio.sleep(LEASE_S - 0.1)

        assert await one.reaping.take_back(is_calm=True) == (0, 0)
        assert one.live(run_id).lease_id is not None


async def test_runs_whose_lease_has_no_row_are_found_by_the_scan(
    autojump_clock: MockClock,
) -> None:
    async with scene() as one:
        (run_id,) = await one.claimed()
        one.store.rows.leases.clear()  # another reaper deleted it, and died

        await one.reaping.take_back(is_calm=True)

        assert one.waiting() == [run_id]


async def test_used_up_attempts_end_free(autojump_clock: MockClock) -> None:
    async with scene() as one:
        (run_id,) = await one.claimed()
        one.live(run_id).attempts_spent = 2
        one.store.rows.leases.clear()

        await one.reaping.take_back(is_calm=True)

        run = one.world.run(run_id)
        assert run.failure is not None
        assert (run.status, run.actual_cost, run.failure.code) == (
            Status.FAILED,
            0,
            ErrorCode.LOST_LEASE,
        )


async def test_a_cancel_that_was_asked_ends_a_lost_run(autojump_clock: MockClock) -> None:
    async with scene() as one:
        (run_id,) = await one.claimed()
        await one.store.cancel_run("acme", run_id)
        one.store.rows.leases.clear()

        await one.reaping.take_back(is_calm=True)

        assert (one.world.run(run_id).status, one.world.run(run_id).actual_cost) == (
            Status.CANCELED,
            0,
        )


async def test_an_overdue_run_is_taken_one_lease_after_its_deadline(
    autojump_clock: MockClock,
) -> None:
    async with scene() as one:
        (run_id,) = await one.claimed(lease_s=100_000)
        await trio.sleep(60 + LEASE_S)
        assert await one.reaping.take_back(is_calm=True) == (0, 0)
        await trio.sleep(0.1)

        assert await one.reaping.take_back(is_calm=True) == (0, 1)
        assert (one.waiting(), one.live(run_id).attempts_spent) == ([run_id], 1)


async def test_a_run_that_nobody_started_expires(autojump_clock: MockClock) -> None:
    async with scene() as one:
        submission = asked()
        await one.store.submit_runs([submission], wait=True)
        await trio.sleep(QUEUE_TTL_S + 1)

        assert await one.reaping.expire() == 1
        assert one.world.run(submission.run_id).status is Status.EXPIRED
        assert one.store.rows.budgets["acme"].held == 0


async def test_a_run_that_was_started_once_does_not_expire(autojump_clock: MockClock) -> None:
    async with scene() as one:
        await one.claimed()
        one.store.rows.leases.clear()
        await one.reaping.take_back(is_calm=True)
        await trio.sleep(QUEUE_TTL_S + 1)

        assert await one.reaping.expire() == 0


async def test_a_pass_goes_on_until_a_page_is_not_full(autojump_clock: MockClock) -> None:
    async with scene() as one:
        await one.claimed(runs=5 * PAGE + 3)
        one.store.rows.leases.clear()

        assert await one.reaping.take_back(is_calm=True) == (0, 5 * PAGE + 3)


async def test_a_pass_is_bounded_and_goes_on_at_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGES_MAX", 2)
    async with scene() as one:
        await one.claimed(runs=5 * PAGE)
        one.store.rows.leases.clear()
        calm = Calm(LEASE_S, INTERVAL_S, answered_at=trio.current_time())

        more = [await step(one.reaping, calm) for _ in range(3)]

        assert more == [True, True, False]
        assert len(one.waiting()) == 5 * PAGE


async def test_what_cannot_be_taken_keeps_nobody_waiting(autojump_clock: MockClock) -> None:
    async with scene() as one:
        await one.world.tenant("held")
        stuck = [asked("held") for _ in range(3 * PAGE)]
        await one.store.submit_runs(stuck, wait=True)
        free = [asked("acme") for _ in range(2 * PAGE)]
        await one.store.submit_runs(free, wait=True)
        lease = NodeLease(uuid4(), "gone")
        await one.store.take_lease(lease, lease_s=1, hand_back=())
        turns = (Turn("held", 99), Turn("acme", 99))
        claim = Claim(lease=lease, turns=turns, packs=("echo",))
        await one.store.claim_runs(claim)
        one.store.rows.leases.clear()
        one.store.faults.hold("held")
        one.store.faults.calls.clear()

        leases, taken = await one.reaping.take_back(is_calm=True)

        assert (leases, taken) == (0, 2 * PAGE)
        assert one.store.faults.calls.count("orphaned_runs") <= 6  # and no spinning


async def test_a_take_back_that_the_database_refuses_is_quarantined(
    autojump_clock: MockClock,
) -> None:
    async with scene() as one:
        runs = await one.claimed(runs=6)
        one.store.faults.poisoned.add(runs[2])
        one.store.rows.leases.clear()

        await one.reaping.take_back(is_calm=True)

        assert sorted(one.waiting()) == sorted(set(runs) - {runs[2]})
        assert one.live(runs[2]).quarantined
        assert [finding.subject for finding in one.store.rows.findings] == [str(runs[2])]


async def test_what_was_seen_is_what_is_taken(autojump_clock: MockClock) -> None:
    async with scene() as one:
        (run_id,) = await one.claimed()
        live = one.live(run_id)
        seen = Seen(run_id, "acme", live.lease_id, live.lease_epoch)
        live.lease_epoch += 1  # claimed again since

        assert await one.store.take_back([seen], Lapse.LOST) == 0


# the loop


async def test_a_dead_node_s_runs_are_free_within_lease_and_interval(
    autojump_clock: MockClock,
) -> None:
    async with reaping() as one:
        (run_id,) = await one.claimed()

        await trio.sleep(LEASE_S + 1.1 * INTERVAL_S + 0.1)

        assert one.waiting() == [run_id]


async def test_runs_of_this_node_s_earlier_life_are_free_at_once(
    autojump_clock: MockClock,
) -> None:
    async with reaping() as one:
        (run_id,) = await one.claimed()
        await trio.sleep(0.5)
        one.store.rows.leases.clear()
        one.world.standing.earlier_gone.set()
        await trio.sleep(0.01)

        assert one.waiting() == [run_id]


async def test_after_an_outage_living_nodes_hand_back_first(autojump_clock: MockClock) -> None:
    async with reaping() as one:
        (run_id,) = await one.claimed()
        with one.store.faults.outage():
            await trio.sleep(95)
        await trio.sleep(LEASE_S)
        assert one.live(run_id).lease_id is not None

        await trio.sleep(2 * 1.1 * INTERVAL_S)

        assert one.waiting() == [run_id]


@pytest.mark.parametrize("crashes_at", [0.0, 90.0, 95.0])
async def test_a_reaper_that_crashed_in_an_outage_waits_as_long_after_it(
    autojump_clock: MockClock, crashes_at: float
) -> None:
    """At its first question, at its last one, or at the first after it."""
    async with scene() as one, trio.open_nursery() as nursery:
        (run_id,) = await one.claimed()
        nursery.start_soon(supervise, "reaper", one.world.reap)
        await trio.sleep(1)
        with one.store.faults.outage():
            await trio.sleep(crashes_at)
            one.store.faults.fail("unstarted_runs", Fault(RuntimeError("a bug")))
            await trio.sleep(95 - crashes_at)
        await trio.sleep(LEASE_S)
        assert one.live(run_id).lease_id is not None

        await trio.sleep(3 * 1.1 * INTERVAL_S)

        assert one.waiting() == [run_id]
        nursery.cancel_scope.cancel()


async def test_after_being_stopped_it_waits_as_after_an_outage(autojump_clock: MockClock) -> None:
    async with reaping() as one:
        (run_id,) = await one.claimed()
        await trio.sleep(1)
        autojump_clock.jump(60)
        await trio.sleep(LEASE_S - 1)
        assert one.live(run_id).lease_id is not None

        await trio.sleep(2 * 1.1 * INTERVAL_S)

        assert one.waiting() == [run_id]


async def test_an_outage_in_which_no_lease_can_lapse_delays_nothing(
    autojump_clock: MockClock,
) -> None:
    async with reaping() as one:
        (run_id,) = await one.claimed()
        await trio.sleep(LEASE_S - 8)
        with one.store.faults.outage():
            await trio.sleep(7)
        await trio.sleep(1 + 1.1 * INTERVAL_S + 0.1)

        assert one.waiting() == [run_id]


def test_a_long_interval_is_no_outage() -> None:
    calm = Calm(lease_s=8, interval_s=5, answered_at=0)

    for n in range(1, 10):
        calm.answered(n * 5.5)

    assert calm.waits_until == 8  # of its start


async def test_a_node_that_starts_lets_the_living_hand_back_first(
    autojump_clock: MockClock,
) -> None:
    """What kept it from starting may have been the outage that let their leases lapse."""
    async with scene() as one:
        (run_id,) = await one.claimed(lease_s=0.2)
        (orphan,) = await one.claimed()
        del one.store.rows.leases[one.live(orphan).lease_id]
        await trio.sleep(1)
        calm = Calm(LEASE_S, INTERVAL_S, answered_at=trio.current_time())

        await step(one.reaping, calm)
        assert one.waiting() == [orphan]
        for _ in range(int(LEASE_S / INTERVAL_S) + 1):
            await trio.sleep(INTERVAL_S)
            await step(one.reaping, calm)
        assert one.waiting() == [run_id, orphan]


async def test_runs_expire_during_the_wait_after_an_outage(autojump_clock: MockClock) -> None:
    async with reaping() as one:
        submission = asked()
        await one.store.submit_runs([submission], wait=True)
        with one.store.faults.outage():
            await trio.sleep(QUEUE_TTL_S)
        await trio.sleep(1.1 * INTERVAL_S)

        assert one.world.run(submission.run_id).status is Status.EXPIRED


async def test_a_bug_is_left_to_the_supervisor(autojump_clock: MockClock) -> None:
    async with scene() as one:
        one.store.faults.fail("overdue_runs", Fault(RuntimeError("a bug")))
        with pytest.RaisesGroup(RuntimeError):
            await one.world.reap()
