from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import trio
from attrs import define, evolve, field
from structlog.testing import capture_logs
from trio.testing import MockClock

from dpp.actors.supervisor import supervise
from dpp.actors.tenure import END_S, LeaseLapsed, Tenure, return_owed, tenure
from dpp.claims import Claim, Claimed, Seen, Turn
from dpp.faults import StoreUnavailable
from dpp.findings import Resolved
from dpp.leases import NodeLease
from dpp.packs.ctx import Ctx
from dpp.resolutions import Accept, Resolving
from dpp.runs import Status
from tests.actors.world import DRAIN_S, HEARTBEAT_S, LEASE_S, PLANS, World, asked
from tests.fake_audit import audit
from tests.fake_faults import WALL_S, Fault
from tests.fake_store import FakeStore, trio_now

TRUST_S = LEASE_S - 1.0


@define(eq=False)
class Work:
    """What a pack of this node lived through: when it began and when it was cut off."""

    began_at: list[float] = field(factory=list)
    cut_at: list[float] = field(factory=list)
    sleep_s: float = 3000.0
    cleanup_s: float = 0.0

    async def __call__(self, _: Ctx, __: object) -> object:
        self.began_at.append(trio.current_time())
        try:
            await trio.sleep(self.sleep_s)
        except trio.Cancelled:
            self.cut_at.append(trio.current_time())
            with trio.CancelScope(shield=True):
                await trio.sleep(self.cleanup_s)
            raise
        return "done"


@define(eq=False)
class Node:
    """The tenure of a node with one long run, kept as the node keeps it; and its settler."""

    world: World
    work: Work
    run_id: UUID

    @property
    def attempts_spent(self) -> int:
        return self.world.store.rows.live[self.run_id].attempts_spent

    @property
    def status(self) -> Status:
        return self.world.run(self.run_id).status


@asynccontextmanager
async def working(sleep_s: float = 3000.0, cleanup_s: float = 0.0) -> AsyncIterator[Node]:
    """Run a node without its reaper, so that what is taken back is seen; one run is in work."""
    work = Work(sleep_s=sleep_s, cleanup_s=cleanup_s)
    world = World(packs={"work": work})
    await world.tenant()
    submission = asked(pack_type="work", timebox_s=3600)
    await world.store.submit_runs([submission], wait=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve_without_reaper)
        await trio.sleep(1)
        assert len(work.began_at) == 1
        yield Node(world, work, submission.run_id)
        world.stopping.begin("the test is over")
    assert audit(world.store.rows).ok


@asynccontextmanager
async def alone(world: World) -> AsyncIterator[Tenure]:
    """Keep a tenure in which nothing happens."""
    async with tenure(
        world.store, world.standing, lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S
    ) as here:
        yield here


def lease_row_lives(world: World) -> bool:
    return any(row.lease_until > trio_now() for row in world.store.rows.leases.values())


async def test_a_pack_that_cancels_all_runs_stops_no_node(autojump_clock: MockClock) -> None:
    async def wild(_: Ctx, __: object) -> object:
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    world = World(packs={"wild": wild, "work": Work(sleep_s=1)})
    await world.tenant()
    bad, good = asked(pack_type="wild"), asked(pack_type="work")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve)
        await world.store.submit_runs([bad], wait=True)
        await trio.sleep(200)
        await world.store.submit_runs([good], wait=True)
        await trio.sleep(200)
        world.stopping.begin("the test is over")

    assert world.stopping.bug is None
    assert [world.run(one.run_id).status for one in (bad, good)] == [
        Status.FAILED,
        Status.COMPLETED,
    ]


# trust


async def test_a_lease_is_kept_as_long_as_it_is_renewed(autojump_clock: MockClock) -> None:
    world = World()

    async with alone(world):
        await trio.sleep(1000)
        assert lease_row_lives(world)

    assert world.store.rows.leases == {}


async def test_trust_counts_from_before_the_lease_was_asked(autojump_clock: MockClock) -> None:
    world = World()
    world.store.faults.fail("take_lease", Fault(after_s=8))

    async with alone(world) as here:
        assert trio.current_time() == 8
        assert here.trust.deadline == TRUST_S


async def test_slow_renewal_does_not_stretch_trust(autojump_clock: MockClock) -> None:
    world = World()
    world.store.faults.fail("renew_lease", Fault(after_s=8))

    async with alone(world) as here:
        await trio.sleep(HEARTBEAT_S + 8.5)
        assert here.trust.deadline == HEARTBEAT_S + TRUST_S


async def test_we_let_go_before_the_row_lapses(autojump_clock: MockClock) -> None:
    async with working() as node:
        node.world.store.faults.silent = True
        while not node.work.cut_at:
            assert lease_row_lives(node.world)
            await trio.sleep(0.1)
        assert lease_row_lives(node.world)
        node.world.store.faults.silent = False


async def test_a_renewal_without_an_answer_is_soon_asked_again(autojump_clock: MockClock) -> None:
    world = World()
    world.store.faults.fail("renew_lease", Fault(StoreUnavailable()))

    async with alone(world) as here:
        await trio.sleep(HEARTBEAT_S + 1.5)
        assert not here.unanswered
        assert here.trust.deadline == HEARTBEAT_S + 1 + TRUST_S


async def test_the_database_s_time_is_learned_with_every_answer(autojump_clock: MockClock) -> None:
    world = World()
    with pytest.raises(StoreUnavailable):
        world.standing.clock.unix_ms()

    async with alone(world):
        await trio.sleep(25)

        assert world.standing.clock.unix_ms() == int(trio_now().timestamp() * 1000)


# the four ends of a tenure


async def test_an_orderly_drain_hands_back_free(autojump_clock: MockClock) -> None:
    async with working() as node:
        node.world.stopping.begin("SIGTERM")
        await trio.sleep(DRAIN_S + 1)

        assert node.work.cut_at == [1 + DRAIN_S]
        assert (node.status, node.attempts_spent) == (Status.QUEUED, 0)
        assert node.world.store.rows.leases == {}


async def test_a_run_that_ends_within_the_drain_is_settled(autojump_clock: MockClock) -> None:
    async with working(sleep_s=15) as node:
        node.world.stopping.begin("SIGTERM")

    assert node.status is Status.COMPLETED
    assert trio.current_time() < 16


async def test_nothing_is_claimed_once_the_node_drains(autojump_clock: MockClock) -> None:
    async with working(sleep_s=15) as node:
        node.world.stopping.begin("SIGTERM")
        await node.world.store.submit_runs([asked(pack_type="work")], wait=True)
        node.world.rounds.queued("acme")

    assert len(node.work.began_at) == 1


@pytest.mark.parametrize("kind", ["down", "silent"])
async def test_an_outage_of_95_s_is_handed_back_free(autojump_clock: MockClock, kind: str) -> None:
    async with working() as node:
        setattr(node.world.store.faults, kind, True)
        await trio.sleep(95)
        assert node.work.cut_at == [TRUST_S]
        assert node.status is Status.PROCESSING
        setattr(node.world.store.faults, kind, False)
        await trio.sleep(WALL_S + 2)  # what is on its way is given up first

        assert (node.status, node.attempts_spent) == (Status.PROCESSING, 0)
        assert len(node.work.began_at) == 2
        assert len(node.world.store.rows.leases) == 1
        assert node.world.standing.owed == set()


async def test_an_outage_is_one_although_a_pack_takes_its_time_to_end(
    autojump_clock: MockClock,
) -> None:
    async with working(cleanup_s=5) as node:
        node.world.store.faults.down = True
        await trio.sleep(LEASE_S + 30)
        node.world.store.faults.down = False
        await trio.sleep(2)

        assert node.work.cut_at == [TRUST_S]
        assert (len(node.work.began_at), node.attempts_spent) == (2, 0)


async def test_a_short_outage_ends_nothing(autojump_clock: MockClock) -> None:
    async with working() as node:
        await trio.sleep(8)
        with node.world.store.faults.outage():
            await trio.sleep(15)
        await trio.sleep(60)

        assert node.work.cut_at == []


async def test_our_own_stall_of_40_s_spends_the_attempt(autojump_clock: MockClock) -> None:
    async with working() as node:
        lease_id = node.world.store.rows.live[node.run_id].lease_id
        autojump_clock.jump(40)  # and nobody ran meanwhile
        await trio.sleep(0.5)

        assert node.work.cut_at == [41]
        assert lease_id not in node.world.store.rows.leases
        assert node.world.store.rows.live[node.run_id].lease_id == lease_id  # the reaper's
        assert node.world.standing.owed == set()


async def test_a_stall_that_begins_with_a_renewal_on_its_way_spends_the_attempt(
    autojump_clock: MockClock,
) -> None:
    """The store would have answered; that nobody here listened is no outage of it."""
    async with working() as node:
        lease_id = node.world.store.rows.live[node.run_id].lease_id
        node.world.store.faults.fail("renew_lease", Fault(after_s=0.5))
        await trio.sleep_until(HEARTBEAT_S + 0.1)
        assert node.world.store.faults.calls.count("renew_lease") == 1
        autojump_clock.jump(40)  # and nobody ran meanwhile
        await trio.sleep(0.5)

        assert node.work.cut_at == [HEARTBEAT_S + 0.1 + 40]
        assert lease_id not in node.world.store.rows.leases
        assert node.world.store.rows.live[node.run_id].lease_id == lease_id  # the reaper's
        assert node.world.standing.owed == set()


async def test_a_lost_lease_ends_the_work_and_the_node_takes_another(
    autojump_clock: MockClock,
) -> None:
    async with working() as node:
        lease_id = node.world.store.rows.live[node.run_id].lease_id
        node.world.store.rows.leases.clear()
        await trio.sleep(HEARTBEAT_S + 1)

        assert node.work.cut_at == [HEARTBEAT_S]
        assert node.world.store.rows.live[node.run_id].lease_id == lease_id  # the reaper's
        assert list(node.world.store.rows.leases) != [lease_id]
        assert lease_row_lives(node.world)


async def test_an_exception_leaves_the_runs_to_the_reaper(autojump_clock: MockClock) -> None:
    world, claims = World(), list[Claimed]()

    async def crash() -> None:
        async with alone(world) as here:
            claims.append(await claim_one(world, here))
            raise ValueError("a bug")

    with pytest.RaisesGroup(ValueError):
        await crash()

    (fence,) = (claimed.fence for claimed in claims)
    assert world.store.rows.leases == {}
    assert world.store.rows.live[fence.run_id].lease_id == fence.lease_id
    assert world.standing.owed == set()


async def claim_one(world: World, here: Tenure) -> Claimed:
    await world.tenant()
    await world.store.submit_runs([asked()], wait=True)
    claimed = await world.store.claim_runs(
        Claim(lease=here.lease, turns=(Turn("acme", 1),), packs=("echo",))
    )
    assert isinstance(claimed, list)
    return claimed[0]


async def test_a_lapsed_tenure_never_returns_normally(autojump_clock: MockClock) -> None:
    world = World()

    with pytest.raises(LeaseLapsed):
        await lapse(world)

    assert trio.current_time() == TRUST_S
    assert len(world.standing.owed) == 1


async def lapse(world: World) -> None:
    """Claim a run, then lose the store until the lease is over."""
    async with alone(world) as here:
        await claim_one(world, here)
        world.store.faults.down = True
        await trio.sleep(1000)
    raise AssertionError("a lapsed tenure returned")


async def test_what_is_owed_is_handed_back_with_the_next_lease_however_late(
    autojump_clock: MockClock,
) -> None:
    world = World()
    with pytest.raises(LeaseLapsed):
        await lapse(world)
    for _ in range(3):  # the store is still away: what is owed stays owed
        with pytest.raises(StoreUnavailable):
            await alone(world).__aenter__()
    world.store.faults.down = False
    await trio.sleep(5000)

    async with alone(world):
        (live,) = world.store.rows.live.values()
        assert (live.lease_id, live.attempts_spent) == (None, 0)
        assert world.standing.owed == set()


async def test_ending_a_lease_is_bounded(autojump_clock: MockClock) -> None:
    world = World()
    async with alone(world):
        world.store.faults.fail("end_lease", Fault(before_s=float("inf")))

    assert trio.current_time() == END_S
    assert len(world.standing.owed) == 1


class Holding(FakeStore):
    """Somebody holds the runs of each lease for so many tries to hand them back."""

    held = 3

    async def end_lease(self, lease: NodeLease, *, hand_back: bool) -> int:
        if self.held:
            self.held -= 1
            await super().end_lease(lease, hand_back=False)
            return 1
        return await super().end_lease(lease, hand_back=hand_back)


async def test_a_drain_asks_again_for_runs_that_somebody_held_for_a_moment(
    autojump_clock: MockClock,
) -> None:
    world = World(Holding(PLANS))
    async with alone(world) as here:
        await claim_one(world, here)

    (live,) = world.store.rows.live.values()
    assert (live.lease_id, live.attempts_spent) == (None, 0)
    assert world.standing.owed == set()
    assert trio.current_time() < 1


async def test_a_store_that_blinks_at_the_end_of_a_drain_costs_no_attempt(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with alone(world) as here:
        await claim_one(world, here)
        world.store.faults.fail("end_lease", Fault(StoreUnavailable("blink")))

    (live,) = world.store.rows.live.values()
    assert (live.lease_id, live.attempts_spent) == (None, 0)
    assert world.standing.owed == set()
    assert trio.current_time() < 1


async def test_a_node_that_rests_gives_back_what_is_owed_once_the_store_is_there(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with alone(world) as here:
        await claim_one(world, here)
        world.store.faults.down = True
    assert world.standing.owed == {here.lease}

    async with trio.open_nursery() as resting:
        resting.start_soon(return_owed, world.store, world.standing)
        await trio.sleep(5)
        assert world.standing.owed == {here.lease}
        world.store.faults.down = False

    (live,) = world.store.rows.live.values()
    assert (live.lease_id, live.attempts_spent) == (None, 0)
    assert world.standing.owed == set()


async def test_asking_for_held_runs_again_is_bounded_and_the_next_lease_asks_once_more(
    autojump_clock: MockClock,
) -> None:
    world = World(Holding(PLANS))
    world.store.held = 1000
    async with alone(world) as here:
        await claim_one(world, here)
    assert trio.current_time() == END_S
    assert world.standing.owed == {here.lease}

    async with alone(world):
        (live,) = world.store.rows.live.values()
        assert (live.lease_id, live.attempts_spent) == (None, 0)


async def test_what_is_owed_is_asked_for_until_nobody_holds_a_run_of_it(
    autojump_clock: MockClock,
) -> None:
    world = World(Holding(PLANS))
    world.store.held = 0
    with pytest.raises(LeaseLapsed):
        await lapse(world)
    world.store.faults.down = False
    world.store.held = 3

    async with alone(world):
        (live,) = world.store.rows.live.values()
        assert (live.lease_id, live.attempts_spent, world.store.held) == (None, 0, 0)
        assert world.standing.owed == set()


async def test_a_lease_is_ended_although_all_is_cancelled(autojump_clock: MockClock) -> None:
    world = World()
    with trio.move_on_after(5):
        async with alone(world):
            await trio.sleep_forever()

    assert world.store.rows.leases == {}


async def test_nothing_is_settled_for_a_lapsed_tenure(autojump_clock: MockClock) -> None:
    async with working(sleep_s=35) as node:
        node.world.store.faults.silent = True
        await trio.sleep(60)
        node.world.store.faults.silent = False
        node.world.store.faults.calls.clear()
        await trio.sleep(5)

        assert "end_runs" not in node.world.store.faults.calls
        assert node.status is Status.PROCESSING


# before and after


async def test_sigterm_before_the_first_lease_ends_within_a_second(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.store.faults.down = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "tenure", world.work)
        await trio.sleep(100)
        world.stopping.begin("SIGTERM")
        began_at = trio.current_time()

    assert trio.current_time() - began_at <= 1
    assert not world.standing.first_lease.is_set()


async def test_restarted_while_draining_it_asks_nothing(autojump_clock: MockClock) -> None:
    world = World()
    world.stopping.begin("SIGTERM")

    await world.work()

    assert world.store.faults.calls == []


async def test_earlier_leases_of_this_node_are_ended_in_the_background(
    autojump_clock: MockClock,
) -> None:
    world = World()
    mine, other = NodeLease(uuid4(), world.node_id), NodeLease(uuid4(), "node-2")
    for lease in (mine, other):
        await world.store.take_lease(lease, lease_s=3000, hand_back=())
    for nth in range(1, 6):
        fault = Fault(StoreUnavailable("lock timeout"), before_s=2)
        world.store.faults.fail("end_earlier_leases", fault, nth=nth)

    async with alone(world) as here:
        assert world.standing.first_lease.is_set()  # READY does not wait
        assert trio.current_time() == 0
        await world.standing.earlier_gone.wait()
        assert set(world.store.rows.leases) == {other.lease_id, here.lease.lease_id}

    world.store.faults.calls.clear()
    async with alone(world):
        await trio.sleep(100)
    assert "end_earlier_leases" not in world.store.faults.calls


async def test_a_bug_there_costs_the_tenure_nothing(autojump_clock: MockClock) -> None:
    world = World()
    for nth in range(1, 100):
        world.store.faults.fail("end_earlier_leases", Fault(ValueError("a bug")), nth=nth)

    async with alone(world):
        await trio.sleep(100)

    assert not world.standing.earlier_gone.is_set()


# ghosts


async def test_a_ghost_is_handed_back_at_the_second_renewal(autojump_clock: MockClock) -> None:
    world = World()
    async with alone(world) as here:
        ghost = await claim_one(world, here)
        live = world.store.rows.live[ghost.fence.run_id]

        await trio.sleep(HEARTBEAT_S + 1)
        assert live.lease_id is not None
        await trio.sleep(HEARTBEAT_S)
        assert live.seen() == Seen(live.run_id, "acme", None, 1)
        assert live.attempts_spent == 0
        assert ghost.fence in world.attempts.forsaken


async def test_a_ghost_that_the_database_refuses_ends_no_healthy_run(
    autojump_clock: MockClock,
) -> None:
    async with working() as node:
        store, ghost = node.world.store, asked()
        store.faults.fail("claim_runs", Fault(ValueError("a bug behind COMMIT"), after=True))
        await store.submit_runs([ghost], wait=True)
        node.world.rounds.queued("acme")
        for nth in range(1, 50):
            store.faults.fail("hand_back_runs", Fault(RuntimeError("refused")), nth=nth)
        await trio.sleep(4 * HEARTBEAT_S)

        assert "hand_back_runs" in store.faults.calls
        assert (node.work.cut_at, len(node.work.began_at)) == ([], 1)


async def test_a_ghost_that_nobody_submitted_is_handed_back_once_and_set_aside(
    autojump_clock: MockClock,
) -> None:
    """Waiting again it would be stamped again, and returned by no claim, for ever."""
    async with working() as node:
        store = node.world.store
        like = store.rows.live[node.run_id]
        stray = evolve(like, run_id=uuid4(), lease_id=None, deadline=None, started_at=None)
        stray.lease_epoch = 0
        store.rows.live[stray.run_id] = stray
        node.world.rounds.queued("acme")

        with capture_logs() as lines:
            await trio.sleep(10 * HEARTBEAT_S)

        assert (stray.quarantined, stray.lease_epoch) == (True, 1)
        told = [one for one in lines if one["event"] == "ghosts handed back"]
        assert len(told) == store.faults.calls.count("hand_back_runs") == 1
        (finding,) = await store.list_findings()
        asked_for = Resolving(
            finding_id=finding.finding_id, remedy=Accept(), operator="ops", reason="nobody's"
        )
        assert isinstance(await store.resolve_finding(asked_for), Resolved)
        assert stray.run_id not in store.rows.live


async def test_what_is_known_by_the_second_renewal_is_no_ghost(autojump_clock: MockClock) -> None:
    async with working() as node:
        live = node.world.store.rows.live[node.run_id]
        (attempt,) = node.world.attempts
        node.world.attempts._by_fence.clear()  # as if its claim were still on its way here
        await trio.sleep(HEARTBEAT_S)
        node.world.attempts.add(attempt)
        await trio.sleep(5 * HEARTBEAT_S)

        assert live.lease_epoch == 1
        assert live.lease_id is not None


async def test_handing_back_ghosts_does_not_keep_us_from_renewing(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with alone(world) as here:
        await claim_one(world, here)
        for nth in range(1, 50):
            world.store.faults.fail("hand_back_runs", Fault(before_s=float("inf")), nth=nth)
        await trio.sleep(300)

        assert not here.trust.cancel_called


# the claimer inside


async def test_a_bug_of_the_claimer_ends_no_run(autojump_clock: MockClock) -> None:
    async with working(sleep_s=25) as node:
        for nth in (1, 3, 5):
            node.world.store.faults.fail("claim_runs", Fault(ValueError("a bug")), nth=nth)
        for _ in range(10):
            node.world.rounds.queued("acme")
            await trio.sleep(1)
        await trio.sleep(20)

        assert node.work.cut_at == []
        assert node.status is Status.COMPLETED


async def test_a_claimer_that_gives_up_drains_the_node_and_costs_no_run_its_attempt(
    autojump_clock: MockClock,
) -> None:
    async with working() as node:
        for nth in range(1, 7):
            node.world.store.faults.fail("claim_runs", Fault(ValueError("a bug")), nth=nth)
        for _ in range(40):
            node.world.rounds.queued("acme")
            await trio.sleep(0.1)

        assert node.world.stopping.draining.is_set()
        assert node.work.cut_at == []  # it has drain_s to end in
        assert lease_row_lives(node.world)
        await trio.sleep(DRAIN_S)
        assert len(node.work.cut_at) == 1
        live = node.world.store.rows.live[node.run_id]
        assert (live.lease_id, live.attempts_spent) == (None, 0)
