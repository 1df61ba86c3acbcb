"""A short storm: everybody does everything at once, by a seed; then it must come to rest, clean.

What each worker does next is drawn from its seed; how the transactions interleave is PostgreSQL's
affair. No deadlock may occur, every acknowledged run must end, and both judges must find nothing.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.admission import Busy, Created, Exists
from dpp.faults import ClaimUnknown, StoreUnavailable
from dpp.leases import Lapse, LeaseGone
from dpp.ledger import Kind
from dpp.money import Micros
from dpp.runs import ErrorCode, Failure
from dpp.settlement import CanceledWhileRunning, Completed, FailedByItself, FailedByPlatform
from tests.oracle.money import Memory, violations
from tests.store.examples import DOLLAR, LEASE_S, STORE_PLANS, end, new_lease, posting, submission
from tests.store.sessions import LOOK_S, SOON_S
from tests.store.steps import ALL, claim, claim_of, make_tenant, take_lease
from tests.store.wire import Cut

if TYPE_CHECKING:
    from uuid import UUID

    from dpp.claims import Claimed
    from dpp.settlement import End
    from dpp.store.postgres import PostgresStore
    from tests.store.sessions import Session
    from tests.store.wire import Wire

TENANTS = ("a", "b", "c", "d", "e")
PLANS = ("fee", "unlimited", "fee", "picky", "unlimited")
WORKERS = 4
TASKS = 3  # of a worker, at once: what a node settles, hands back and drains may meet
STEPS = 40
CUT = 0.1  # of the commits
BROKEN = Failure(ErrorCode.PACK_ERROR, "it raised")


class Worker:
    """One of many who use the store; what it remembers may be out of date, as in life."""

    def __init__(self, store: PostgresStore, seed: int) -> None:
        self.store = store
        self.random = Random(seed)
        self.name = f"node-{seed}"
        self.lease = new_lease(self.name)  # never taken: the first claim finds it gone
        self.mine: list[Claimed] = []
        self.ended: list[End] = []
        self.acknowledged: dict[UUID, str] = {}

    async def work(self) -> None:
        acts = [self.submit] * 6 + [self.claim] * 6 + [self.end] * 8 + [self.cancel] * 3
        acts += [self.reap] * 3 + [self.refund] * 2
        acts += [self.lose, self.hand_back, self.drain, self.post, self.again]
        for _ in range(STEPS):
            with suppress(StoreUnavailable):  # nothing was committed, or it is unknown: as in life
                await self.random.choice(acts)()
                await self.store.renew_lease(self.lease, lease_s=LEASE_S)

    def some(self, things: list[Any], most: int = 6) -> list[Any]:
        """Return some of these, in any order."""
        return self.random.sample(things, min(len(things), self.random.randint(0, most)))

    def tenants(self) -> list[str]:
        return self.random.sample(TENANTS, self.random.randint(1, len(TENANTS)))

    async def submit(self) -> None:
        batch = [
            submission(
                self.random.choice(TENANTS),
                f"order-{self.random.randint(1, 400)}",
                max_cost=self.random.randint(5_000, DOLLAR),
                priority=self.random.randint(0, 9),
            )
            for _ in range(self.random.randint(1, 12))
        ]
        answers = await self.store.submit_runs(batch, wait=self.random.random() < 0.3)
        for one, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Created | Exists):
                self.acknowledged[answer.run_id] = one.tenant_id

    async def claim(self) -> None:
        asked = claim_of(self.lease, *self.tenants(), share=self.random.randint(1, 4))
        try:
            claimed = await self.store.claim_runs(asked)
        except ClaimUnknown:
            claimed = await self.store.claimed_under(self.lease)
            if isinstance(claimed, list):
                known = {one.fence for one in self.mine}
                claimed = [one for one in claimed if one.fence not in known]
        if isinstance(claimed, LeaseGone):
            self.lease = await take_lease(self.store, self.name)
        else:
            self.mine += claimed

    async def end(self) -> None:
        batch = [end(one, self.outcome(one)) for one in self.some(self.mine)]
        await self.settle(batch)
        self.ended += batch

    async def again(self) -> None:
        """Ask for what was asked before."""
        await self.settle(self.some(self.ended))

    async def settle(self, batch: list[End]) -> None:
        answers = await self.store.end_runs(batch, wait=self.random.random() < 0.5)
        done = {
            one.fence
            for one, answer in zip(batch, answers, strict=True)
            if not isinstance(answer, Busy)
        }
        self.mine = [one for one in self.mine if one.fence not in done]

    def outcome(self, claimed: Claimed) -> Any:
        charged = Micros(self.random.randint(0, claimed.max_cost))
        return self.random.choice(
            [
                Completed(b"{}", charged),
                FailedByItself(BROKEN, charged),
                CanceledWhileRunning(charged),
                FailedByPlatform("the disk broke"),
            ]
        )

    async def cancel(self) -> None:
        for run_id in self.some(list(self.acknowledged), 3):
            await self.store.cancel_run(self.acknowledged[run_id], run_id)

    async def reap(self) -> None:
        await self.store.reap_lease()
        await self.store.take_back(await self.store.orphaned_runs(20), Lapse.LOST)

    async def lose(self) -> None:
        """Lose the tenure, as a crash does; its attempts are still thought to be ours."""
        await self.store.end_lease(self.lease, hand_back=False)

    async def drain(self) -> None:
        await self.store.end_lease(self.lease, hand_back=True)

    async def hand_back(self) -> None:
        await self.store.hand_back_runs([one.fence for one in self.some(self.mine)])

    async def post(self) -> None:
        kind = self.random.choice([Kind.DEPOSIT, Kind.WITHDRAW, Kind.ADJUST])
        amount = self.random.randint(1, 2 * DOLLAR)
        if kind is Kind.ADJUST:
            amount *= self.random.choice([1, -1])
        reference = f"ref-{self.random.randint(1, 30)}"
        for tenant_id in self.tenants():
            await self.store.post_transfer(
                posting(amount, reference, tenant_id=tenant_id, kind=kind)
            )

    async def refund(self) -> None:
        """Give back a part of some runs, whatever became of them; a few names are many a run's."""
        for run_id in self.some(list(self.acknowledged), 3):
            amount, tenant_id = self.random.randint(1, DOLLAR // 4), self.acknowledged[run_id]
            reference = f"back-{self.random.randint(1, 300)}"
            await self.store.post_transfer(
                posting(amount, reference, tenant_id=tenant_id, kind=Kind.REFUND, run_id=run_id)
            )


@pytest.mark.parametrize("seed", [1])
async def test_a_storm_comes_to_rest_clean_and_without_a_deadlock(
    store: PostgresStore, admin: Session, seed: int
) -> None:
    await storm(store, store, admin, seed)

    assert await deadlocks(store, admin) == 0


@pytest.mark.parametrize("seed", [1])
async def test_a_storm_whose_commits_are_cut_comes_to_rest_clean(
    wired: PostgresStore, wire: Wire, store: PostgresStore, admin: Session, seed: int
) -> None:
    random = Random(seed)
    wire.next_cut = lambda: (
        random.choice([Cut.BEFORE, Cut.AFTER]) if random.random() < CUT else None
    )

    await storm(wired, store, admin, seed)

    assert wire.cuts > STEPS


async def storm(store: PostgresStore, calm: PostgresStore, admin: Session, seed: int) -> None:
    """Let the workers loose on `store`; judge on `calm` what they leave."""
    store.plans = calm.plans = STORE_PLANS
    memory, workers = Memory(), [Worker(store, 1_000 * seed + n) for n in range(WORKERS)]
    for tenant_id, plan in zip(TENANTS, PLANS, strict=True):
        await make_tenant(calm, tenant_id, plan=plan, deposit=30 * DOLLAR)

    async with trio.open_nursery() as nursery:
        for worker in workers:
            for _ in range(TASKS):
                nursery.start_soon(worker.work)
        for _ in range(3):  # while they work
            assert await admin.run(lambda connection: violations(connection, memory)) == []
    await come_to_rest(calm)

    acknowledged = {one: of for worker in workers for one, of in worker.acknowledged.items()}
    assert len(acknowledged) > 100
    for run_id, tenant_id in acknowledged.items():
        run = await calm.get_run(tenant_id, run_id)
        assert run is not None
        assert run.actual_cost is not None
    assert [(await calm.get_budget(one)).held for one in TENANTS] == [0] * len(TENANTS)
    posted = await admin.fetch("select distinct kind from dpp.transfers")
    # Whether a refund fits what its run cost is left to chance, and to who comes first.
    assert {row["kind"] for row in posted} >= set(Kind) - {Kind.REFUND}
    assert (await calm.audit()).ok
    assert await admin.run(lambda connection: violations(connection, memory)) == []


async def come_to_rest(store: PostgresStore) -> None:
    """Let everything that is left be taken back, claimed and completed."""
    for node in await store.list_nodes():
        lease = await take_lease(store, node.node_id)
        await store.end_earlier_leases(lease)
    lease = await take_lease(store)
    while scan := await store.orphaned_runs(ALL):
        assert await store.take_back(scan, Lapse.LOST) == len(scan)
    while claimed := await claim(store, lease, *TENANTS):
        await store.end_runs([end(one, Completed(b"{}", Micros(0))) for one in claimed], wait=True)
    assert await store.queued_tenants("", ALL) == []


async def deadlocks(store: PostgresStore, admin: Session) -> int:
    """Count the deadlocks that the server saw: a backend has told of its own when it has gone."""
    await store.close()
    left = """
    select count(*) from pg_stat_activity where datname = current_database() and usename = 'dpp_app'
    """
    with trio.fail_after(SOON_S):
        while await admin.fetchval(left):  # noqa: ASYNC110
            await trio.sleep(LOOK_S)
    await admin.fetch("select pg_stat_clear_snapshot()")
    counted = "select deadlocks from pg_stat_database where datname = current_database()"
    return await admin.fetchval(counted)
