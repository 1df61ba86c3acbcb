from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors.attempts import Attempt
from dpp.actors.claimer import POLL_S_MAX, RUNS, claimer
from dpp.actors.tenure import Tenure
from dpp.claims import Claim, Claimed
from dpp.faults import ClaimUnknown, StoreUnavailable
from dpp.leases import LeaseGone, NodeLease
from dpp.live import Live
from dpp.settlement import Completed, End
from tests.actors.world import PLANS, World, asked
from tests.fake_faults import Fault
from tests.fake_store import FakeStore

SCAN_S = 1.2  # a refresh is due after a second, jittered


class Spy(FakeStore):
    """Remembers what was claimed for."""

    def __init__(self) -> None:
        super().__init__(PLANS)
        self.claims: list[Claim] = []
        self.share_max = RUNS  # what a claim brings of a tenant, however much is asked for

    async def claim_runs(self, claim: Claim) -> list[Claimed] | LeaseGone:
        self.claims.append(claim)
        turns = [evolve(turn, share=min(turn.share, self.share_max)) for turn in claim.turns]
        return await super().claim_runs(evolve(claim, turns=tuple(turns)))


@define(eq=False)
class Hall:
    """A claimer alone: what it starts is executed by nobody until the test ends it."""

    world: World
    store: Spy
    here: Tenure
    started: list[Attempt] = field(factory=list)
    started_at: dict[UUID, float] = field(factory=dict)

    async def execute(self, attempt: Attempt) -> None:
        self.started.append(attempt)
        self.started_at[attempt.fence.run_id] = trio.current_time()

    async def end(self, attempt: Attempt) -> None:
        """Settle an attempt and let it go."""
        end = End(uuid4(), attempt.claimed.tenant_id, attempt.fence, Completed(b"1", 0))
        await self.store.end_runs([end], wait=True)
        self.world.attempts.remove(attempt)

    async def submit(self, tenant_id: str = "acme", runs: int = 1, **fields: int) -> list[UUID]:
        """Submit on another node: nothing wakes this claimer."""
        batch = [asked(tenant_id, **fields) for _ in range(runs)]
        await self.store.submit_runs(batch, wait=True)
        return [submission.run_id for submission in batch]

    def claims(self) -> int:
        return self.store.faults.calls.count("claim_runs")


@asynccontextmanager
async def claiming(
    *tenants: str, concurrency: int = 500, plan: str = "unlimited"
) -> AsyncIterator[Hall]:
    store = Spy()
    world = World(store)
    for tenant_id in tenants or ("acme",):
        await world.tenant(tenant_id, plan)
    lease = NodeLease(uuid4(), world.node_id)
    await store.take_lease(lease, lease_s=3600, hand_back=())
    hall = Hall(world, store, Tenure(lease, world.attempts, trio.CancelScope()))

    async def claim() -> None:
        with hall.here.trust:
            await claimer(
                store,
                world.rounds,
                hall.execute,
                hall.here,
                runs,
                world.stopping.draining,
                packs=("echo",),
                concurrency=Live(concurrency),
            )

    async with trio.open_nursery() as runs:
        runs.start_soon(claim)
        await wait_all_tasks_blocked()
        yield hall
        world.stopping.begin("the test is over")


def run_ids(hall: Hall) -> list[UUID]:
    return [attempt.fence.run_id for attempt in hall.started]


# what wakes it


async def test_a_submit_of_this_node_is_claimed_at_once(autojump_clock: MockClock) -> None:
    async with claiming() as hall:
        await trio.sleep(0.7)
        submitted = await hall.submit()
        hall.world.rounds.queued("acme")
        await wait_all_tasks_blocked()

        assert run_ids(hall) == submitted


async def test_a_submit_elsewhere_is_found_by_the_scan(autojump_clock: MockClock) -> None:
    async with claiming() as hall:
        await trio.sleep(0.7)
        submitted = await hall.submit()
        await trio.sleep(SCAN_S)

        assert run_ids(hall) == submitted


async def test_an_idle_node_scans_once_a_second_and_claims_nothing(
    autojump_clock: MockClock,
) -> None:
    async with claiming() as hall:
        await trio.sleep(100)

    assert hall.claims() == 0
    assert 80 <= hall.store.faults.calls.count("queued_tenants") <= 101


async def test_a_scan_goes_on_where_the_last_full_one_stopped(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpp.actors.claimer.SCAN_MAX", 3)
    tenants = [f"t{n}" for n in range(8)]
    async with claiming(*tenants) as hall:
        for tenant_id in tenants:
            await hall.submit(tenant_id)
        await trio.sleep(3 * SCAN_S)

        assert len(hall.started) == 8


# how much of whom


async def test_ten_runs_of_each_of_ten_tenants(autojump_clock: MockClock) -> None:
    tenants = [f"t{n:02}" for n in range(15)]
    async with claiming(*tenants) as hall:
        for tenant_id in tenants:
            await hall.submit(tenant_id, runs=30)
            hall.world.rounds.ring.add(tenant_id)
        hall.world.rounds.wake.ring()
        await wait_all_tasks_blocked()

        assert [turn.share for turn in hall.store.claims[0].turns] == [10] * 10
        served = {attempt.claimed.tenant_id for attempt in hall.started[:200]}
        assert served == set(tenants)
        assert len(hall.started) == 450


async def test_a_tenant_that_is_alone_may_fill_the_claim(autojump_clock: MockClock) -> None:
    async with claiming() as hall:
        await hall.submit(runs=100)
        hall.world.rounds.queued("acme")
        await wait_all_tasks_blocked()

        (turn,) = hall.store.claims[0].turns
        assert (turn.share, len(hall.started)) == (100, 100)
        assert hall.claims() == 2  # and one that found nothing more


async def test_a_noisy_tenant_delays_no_quiet_one(autojump_clock: MockClock) -> None:
    async with claiming("noisy", "quiet", concurrency=20) as hall:
        await hall.submit("noisy", runs=1000)
        hall.world.rounds.queued("noisy")
        await trio.sleep(1)
        assert len(hall.started) == 20
        (quiet,) = await hall.submit("quiet")
        hall.world.rounds.queued("quiet")
        for attempt in hall.started[:10]:
            await hall.end(attempt)
        await trio.sleep(0.02)

        assert quiet in run_ids(hall)


async def test_places_are_filled_and_never_more(autojump_clock: MockClock) -> None:
    async with claiming("a", "b", "c", concurrency=7) as hall:
        for tenant_id in "abc":
            await hall.submit(tenant_id, runs=20)
            hall.world.rounds.queued(tenant_id)
        ended = 0
        while ended < 60:
            await trio.sleep(0.1)
            assert len(hall.world.attempts) <= 7
            assert len(hall.world.attempts) == min(7, 60 - ended)
            for attempt in list(hall.world.attempts)[:3]:
                await hall.end(attempt)
                ended += 1

    assert len(hall.started) == 60
    assert len(set(run_ids(hall))) == 60


async def test_low_priority_queued_first_still_runs_last(autojump_clock: MockClock) -> None:
    async with claiming(concurrency=1) as hall:
        (late,) = await hall.submit(priority=9)
        (early,) = await hall.submit(priority=0)
        hall.world.rounds.queued("acme")
        await trio.sleep(1)
        await hall.end(hall.started[0])
        await trio.sleep(1)

        assert run_ids(hall) == [early, late]


async def test_a_capped_tenant_goes_on_soon_after_its_run_ended(autojump_clock: MockClock) -> None:
    async with claiming(plan="one_at_a_time") as hall:
        await hall.submit(runs=20)
        hall.world.rounds.queued("acme")
        for n in range(20):
            await trio.sleep(POLL_S_MAX + 0.01)
            assert len(hall.started) == n + 1
            await hall.end(hall.started[-1])


async def test_a_tenant_without_a_cap_is_not_asked_for_at_each_end(
    autojump_clock: MockClock,
) -> None:
    async with claiming() as hall:
        for _ in range(50):
            await hall.submit()
            hall.world.rounds.queued("acme")
            await trio.sleep(0.1)
            await hall.end(hall.started[-1])
            await trio.sleep(0.1)

    assert hall.claims() <= 50 + 5


async def test_a_tenant_whose_cap_shows_late_is_found_by_the_scan(
    autojump_clock: MockClock,
) -> None:
    async with claiming(plan="one_at_a_time") as hall:
        for _ in range(5):  # one at a time anyway: looking again is in vain
            await hall.submit()
            hall.world.rounds.queued("acme")
            await trio.sleep(0.1)
            await hall.end(hall.started[-1])
            await trio.sleep(0.1)
        await hall.submit(runs=20)
        hall.world.rounds.queued("acme")
        await trio.sleep(0.1)
        await hall.end(hall.started[-1])
        await trio.sleep(SCAN_S)
        for n in range(7, 20):
            assert len(hall.started) == n
            await hall.end(hall.started[-1])
            await trio.sleep(POLL_S_MAX + 0.01)


async def test_a_bound_hides_a_late_commit_no_longer_than_a_refresh(
    autojump_clock: MockClock,
) -> None:
    async with claiming() as hall:
        await trio.sleep(10)
        await hall.submit(runs=3)
        hall.world.rounds.queued("acme")
        await wait_all_tasks_blocked()
        (hidden,) = await hall.submit()
        hall.store.rows.live[hidden].available_at -= timedelta(seconds=5)  # committed late
        hall.world.rounds.queued("acme")
        await wait_all_tasks_blocked()
        assert hidden not in run_ids(hall)
        await trio.sleep(SCAN_S)

        assert hidden in run_ids(hall)


async def test_an_outage_is_left_to_the_supervisor(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(StoreUnavailable, flatten_subgroups=True):
        async with claiming() as hall:
            hall.store.faults.down = True
            hall.world.rounds.queued("acme")
            await trio.sleep(10)


# the claim that got no answer


@pytest.mark.parametrize("after", [False, True], ids=["not committed", "committed"])
async def test_an_unknown_claim_is_known_before_anything_else_is_claimed(
    autojump_clock: MockClock, *, after: bool
) -> None:
    async with claiming() as hall:
        submitted = await hall.submit(runs=5)
        hall.store.faults.fail("claim_runs", Fault(ClaimUnknown("cut"), after=after))
        for nth in (1, 2, 3):
            fault = Fault(StoreUnavailable("lock timeout"), before_s=2)
            hall.store.faults.fail("claimed_under", fault, nth=nth)
        hall.world.rounds.queued("acme")
        await trio.sleep(5)
        assert (hall.claims(), hall.started) == (1, [])
        await trio.sleep(5)

        assert sorted(run_ids(hall)) == sorted(submitted)


async def test_a_run_of_an_unknown_claim_has_its_time_box_from_before_it(
    autojump_clock: MockClock,
) -> None:
    async with claiming() as hall:
        await trio.sleep(3)
        await hall.submit(timebox_s=60)
        asked_at = trio.current_time()
        hall.store.faults.fail("claim_runs", Fault(ClaimUnknown("cut"), after=True, after_s=4))
        hall.store.faults.fail("claimed_under", Fault(after_s=4))
        hall.world.rounds.queued("acme")
        await trio.sleep(10)

        assert hall.started[0].ctx.deadline == asked_at + 60


async def test_what_is_known_is_not_adopted_again(autojump_clock: MockClock) -> None:
    async with claiming(concurrency=500) as hall:
        first = await hall.submit(runs=3)
        hall.world.rounds.queued("acme")
        await wait_all_tasks_blocked()
        second = await hall.submit(runs=3)
        hall.store.faults.fail("claim_runs", Fault(ClaimUnknown("cut"), after=True))
        hall.world.rounds.queued("acme")
        await wait_all_tasks_blocked()

        assert sorted(run_ids(hall)) == sorted([*first, *second])


async def test_what_ends_while_it_is_asked_is_not_adopted_again(autojump_clock: MockClock) -> None:
    async with claiming() as hall:
        (first,) = await hall.submit()
        hall.world.rounds.queued("acme")
        await wait_all_tasks_blocked()
        (second,) = await hall.submit()
        hall.store.faults.fail("claim_runs", Fault(ClaimUnknown("cut"), after=True))
        hall.store.faults.fail("claimed_under", Fault(after_s=2))  # read, and long on its way
        hall.world.rounds.queued("acme")
        await trio.sleep(1)
        await hall.end(hall.started[0])
        await trio.sleep(2)

        assert run_ids(hall) == [first, second]


async def test_what_was_forsaken_is_not_started(autojump_clock: MockClock) -> None:
    async with claiming() as hall:
        (run_id,) = await hall.submit()
        hall.store.faults.fail("claim_runs", Fault(after_s=25))
        hall.world.rounds.queued("acme")
        await trio.sleep(21)  # two renewals later the tenure has handed it back
        live = hall.store.rows.live[run_id]
        fence = hall.store._claimed(live).fence
        hall.world.attempts.forsake([fence])
        await hall.store.hand_back_runs([fence])
        await trio.sleep(5 + SCAN_S)

        assert [attempt.fence.lease_epoch for attempt in hall.started] == [2]


@pytest.mark.parametrize("unknown", [False, True])
async def test_a_claim_under_a_lost_lease_ends_the_tenure(
    autojump_clock: MockClock, *, unknown: bool
) -> None:
    async with claiming() as hall:
        await hall.submit()
        if unknown:
            hall.store.faults.fail("claim_runs", Fault(ClaimUnknown("cut")))
        hall.store.rows.leases.clear()
        hall.world.rounds.queued("acme")
        await trio.sleep(1)

        assert hall.here.trust.cancelled_caught
        assert hall.started == []


async def test_an_unknown_claim_is_left_to_the_end_of_the_lease_by_a_draining_node(
    autojump_clock: MockClock,
) -> None:
    async with claiming() as hall:
        await hall.submit()
        hall.store.faults.fail("claim_runs", Fault(ClaimUnknown("cut"), after=True))
        hall.world.rounds.queued("acme")
        hall.store.faults.fail("claimed_under", Fault(StoreUnavailable()))
        await wait_all_tasks_blocked()
        hall.store.faults.down = True
        await trio.sleep(1)
        hall.world.stopping.begin("SIGTERM")

    assert trio.current_time() < 1.2


async def test_nothing_is_claimed_for_a_draining_node(autojump_clock: MockClock) -> None:
    async with claiming() as hall:
        hall.world.stopping.begin("SIGTERM")
        await hall.submit()
        hall.world.rounds.queued("acme")

    assert trio.current_time() == 0
    assert hall.started == []


# what other nodes are told


async def test_others_are_told_of_runs_that_this_node_has_no_place_for(
    autojump_clock: MockClock,
) -> None:
    told: list[str] = []
    async with claiming(concurrency=2) as hall:
        hall.world.rounds.tell = told.append
        await hall.submit(runs=2)
        hall.world.rounds.queued("acme")
        await trio.sleep(0.1)
        assert len(hall.started) == 2
        told.clear()
        await hall.submit()
        hall.world.rounds.queued("acme")

    assert told == ["acme"]


async def test_others_are_told_where_a_claim_brought_all_that_it_asked_for(
    autojump_clock: MockClock,
) -> None:
    told: list[str] = []
    async with claiming("busy", "quiet") as hall:
        hall.world.rounds.tell = told.append
        await hall.submit("busy", runs=RUNS + 1)
        await hall.submit("quiet")
        hall.world.rounds.queued("quiet")
        hall.world.rounds.queued("busy")
        await trio.sleep(0.1)

    assert {*told} == {"busy"}


async def test_a_claim_that_was_cut_short_for_its_inputs_is_followed_by_the_next(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It brought less than was asked for, and there may be more all the same."""
    monkeypatch.setattr("dpp.actors.claimer.CLAIM_BYTES", 1)
    async with claiming("acme", "other") as hall:
        hall.store.share_max = 1
        for name in ("acme", "other"):
            await hall.submit(name, runs=5)
            hall.world.rounds.queued(name)
        await trio.sleep(0.1)

        assert len(hall.started) == 10


async def test_what_another_node_tells_is_claimed_and_not_told_on(
    autojump_clock: MockClock,
) -> None:
    told: list[str] = []
    async with claiming() as hall:
        hall.world.rounds.tell = told.append
        await trio.sleep(0.7)
        await hall.submit()
        hall.world.rounds.heard("acme")
        await trio.sleep(0.01)
        assert len(hall.started) == 1

    assert told == []
