from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from dpp.actors.lanes import keep_lanes
from dpp.actors.settler import SettlingDesk, settler
from dpp.claims import Claim, Claimed, Turn
from dpp.faults import StoreUnavailable
from dpp.leases import NodeLease
from dpp.metrics import zombie_writes_refused_total
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import (
    Completed,
    End,
    FailedByPlatform,
    LeaseLost,
    Quarantined,
    Requeued,
    Settled,
    Settlement,
)
from tests.actors.world import World, asked
from tests.fake_audit import audit
from tests.fake_faults import Fault
from tests.fake_store import FakeStore

DONE = Completed(b'"done"', Micros(10_000))


@define(eq=False)
class Back:
    """The settler alone: its desk, the store, attempts to end, and what it told the watchboard."""

    desk: SettlingDesk
    store: FakeStore
    claimed: Sequence[Claimed]
    world: World
    ended: list[UUID] = field(factory=list)

    async def settle(self, end: End) -> Settlement:
        return await self.desk.settle(end, "trace")


@asynccontextmanager
async def open_settler(runs: int = 1, *tenants: str) -> AsyncIterator[Back]:
    world = World()
    claimed = await claim(world, runs, *(tenants or ("acme",)))
    back = Back(SettlingDesk(2, 1000), world.store, claimed, world)
    actor = partial(settler, world.store, back.ended.append)
    async with trio.open_nursery() as nursery, back.desk:
        nursery.start_soon(keep_lanes, "settler", back.desk, actor, world.stopping.after)
        yield back


async def claim(world: World, runs: int, *tenants: str) -> list[Claimed]:
    """Submit and claim so many runs of each tenant."""
    for tenant_id in tenants:
        await world.tenant(tenant_id)
        batch = [asked(tenant_id) for _ in range(runs)]
        await world.store.submit_runs(batch, wait=True)
    lease = NodeLease(uuid4(), "node-1")
    await world.store.take_lease(lease, lease_s=30, hand_back=())
    claimed = await world.store.claim_runs(
        Claim(
            lease=lease,
            turns=tuple(Turn(tenant_id, runs) for tenant_id in tenants),
            packs=("echo",),
        )
    )
    assert isinstance(claimed, list)
    return claimed


def end_of(claimed: Claimed) -> End:
    return End(uuid4(), claimed.tenant_id, claimed.fence, DONE)


async def settle_at_last(back: Back, end: End, into: list[Settlement]) -> None:
    """Do what an executor does: ask again under the same ending id."""
    while True:
        try:
            into.append(await back.settle(end))
        except StoreUnavailable:
            await trio.sleep(1)
        else:
            return


async def test_an_end_is_settled_and_the_watchboard_hears_of_it(autojump_clock: MockClock) -> None:
    async with open_settler() as back:
        settlement = await back.settle(end_of(back.claimed[0]))

    assert settlement == Settled(Status.COMPLETED, Micros(10_000))
    assert back.ended == [back.claimed[0].fence.run_id]
    assert (await back.store.audit()).ok


async def test_asked_twice_it_is_settled_once(autojump_clock: MockClock) -> None:
    async with open_settler() as back:
        end = end_of(back.claimed[0])
        answers = [await back.settle(end), await back.settle(end)]

    assert answers == [Settled(Status.COMPLETED, Micros(10_000))] * 2
    assert back.store.rows.budgets["acme"].spent == 10_000


async def test_a_lost_attempt_is_refused_and_counted(autojump_clock: MockClock) -> None:
    refused = zombie_writes_refused_total.labels("end_runs")
    before = refused._value.get()

    async with open_settler() as back:
        await back.store.hand_back_runs([back.claimed[0].fence])
        settlement = await back.settle(end_of(back.claimed[0]))

    assert settlement == LeaseLost()
    assert refused._value.get() == before + 1
    assert back.ended == []


async def test_a_platform_failure_waits_again_and_has_not_ended(autojump_clock: MockClock) -> None:
    async with open_settler() as back:
        claimed = back.claimed[0]
        end = End(uuid4(), claimed.tenant_id, claimed.fence, FailedByPlatform("disk"))
        settlement = await back.settle(end)

    assert settlement == Requeued()
    assert back.ended == []


async def test_a_refused_ending_is_quarantined_and_its_neighbours_end(
    autojump_clock: MockClock,
) -> None:
    answers: list[Settlement] = []

    async with open_settler(8) as back:
        bad = back.claimed[3].fence.run_id
        back.store.faults.poisoned.add(bad)
        async with trio.open_nursery() as nursery:
            for claimed in back.claimed:
                nursery.start_soon(settle_at_last, back, end_of(claimed), answers)

    assert answers.count(Quarantined()) == 1
    assert answers.count(Settled(Status.COMPLETED, Micros(10_000))) == 7
    assert back.store.rows.live[bad].quarantined
    assert back.store.rows.tenants["acme"].frozen
    (finding,) = back.store.rows.findings
    assert finding.subject == str(bad)
    assert finding.evidence["charged_micros"] == 10_000
    verdicts = (await back.store.audit()).verdicts
    assert not any(verdict.offenders for verdict in verdicts)


async def test_only_a_quarantine_that_fails_crashes_the_settler(autojump_clock: MockClock) -> None:
    async with open_settler(2) as back:
        bad, good = back.claimed
        back.store.faults.poisoned.add(bad.fence.run_id)
        for nth in range(1, 100):
            back.store.faults.fail("quarantine_run", Fault(ValueError("a bug")), nth=nth)

        with pytest.raises(StoreUnavailable):
            await back.settle(end_of(bad))
        settlement = await back.settle(end_of(good))

        assert settlement == Settled(Status.COMPLETED, Micros(10_000))
        assert not back.world.stopping.draining.is_set()
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await back.settle(end_of(bad))

    assert back.world.stopping.draining.is_set()
    assert back.world.stopping.bug is not None


async def test_a_held_budget_delays_its_tenant_alone(autojump_clock: MockClock) -> None:
    async with open_settler(1, "acme", "globex") as back:
        ends = {claimed.tenant_id: end_of(claimed) for claimed in back.claimed}
        back.store.faults.hold("acme")
        answers: list[Settlement] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settle_at_last, back, ends["acme"], answers)
            await trio.sleep(1)
            with trio.fail_after(0.1):
                await back.settle(ends["globex"])
            assert answers == []
            back.store.faults.release("acme")

    assert answers == [Settled(Status.COMPLETED, Micros(10_000))]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_whatever_settle_fails_each_run_is_charged_once(
    autojump_clock: MockClock, *, after: bool
) -> None:
    for n in range(1, 100):
        answers: list[Settlement] = []
        async with open_settler(2, "acme", "globex") as back:
            calls = len(back.store.faults.calls)
            back.store.faults.fail_call(calls + n, Fault(StoreUnavailable("cut"), after=after))
            async with trio.open_nursery() as nursery:
                for claimed in back.claimed:
                    nursery.start_soon(settle_at_last, back, end_of(claimed), answers)

        assert answers == [Settled(Status.COMPLETED, Micros(10_000))] * 4
        assert [budget.spent for budget in back.store.rows.budgets.values()] == [20_000, 20_000]
        assert audit(back.store.rows).ok
        if len(back.store.faults.calls) - calls <= n:
            assert n > 1
            return
    pytest.fail("no run was left untouched")
