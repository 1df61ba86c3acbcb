"""Races on PostgreSQL, without luck: one transaction stands before its COMMIT, the other meets it.

Each test is an order of events that a rule of the protocol decides. "Stands" means: all statements
were answered, all locks are held, COMMIT is not sent. Both judges look at the books afterwards.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import evolve

from dpp.admission import (
    Busy,
    Created,
    Exists,
    ExistsWithDifferentRequest,
    InsufficientBudget,
    KeyDead,
    RateLimited,
    TenantSuspended,
)
from dpp.cancels import CancelAsked, Ended
from dpp.claims import Seen
from dpp.leases import Lapse, LeaseGone
from dpp.ledger import Kind, Overdrawn, Posted
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import Completed, LeaseLost, Quarantined, Settled
from dpp.tenants import Tenant, TenantExists
from tests.store.examples import (
    DOLLAR,
    LEASE_S,
    end,
    ids,
    key_of,
    new_key,
    new_lease,
    new_tenant,
    posting,
    submission,
)
from tests.store.sessions import LOOK_S, SOON_S, holding, start
from tests.store.steps import (
    ALL,
    begin,
    budget_of,
    claim,
    claim_of,
    create,
    make_tenant,
    read,
    submit,
    submit_alone,
    take_lease,
)
from tests.store.verbs import (
    asking,
    cancelling,
    claiming,
    ending,
    ending_lease,
    expiring,
    handing_back,
    making_tenant,
    posting_transfer,
    renewing,
    setting_aside,
    submitting,
    taking_back,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dpp.claims import Claimed
    from dpp.store.connections import Connection
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Running, Session, Sessions

MANY = 12  # more than the store has connections for
BEFORE_THEY_GIVE_UP_S = 5.0  # they wait for a lock as long as their wall clock lets them
SETTLED = Settled(Status.COMPLETED, Micros(DOLLAR // 10))
HOLD_RUN = "select from live_runs where run_id = $1 for no key update"


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


def seen(claimed: Claimed) -> Seen:
    fence = claimed.fence
    return Seen(fence.run_id, claimed.tenant_id, fence.lease_id, fence.lease_epoch)


class Standing:
    """A transaction that stands before a statement, by default COMMIT."""

    def __init__(self, session: Session, running: Running[Any], nursery: trio.Nursery) -> None:
        self.session = session
        self.nursery = nursery
        self._running = running

    async def commit(self) -> Any:
        """Let it go on, and return what it answered."""
        await self.session.go_on()
        return await self._running.result()

    async def die(self) -> None:
        """Cut its connection: the server rolls it back."""
        await self.session.close()
        await self.session.go_on()
        with pytest.raises(Exception, match="closed|terminated|lost"):  # noqa: RUF043
            await self._running.result()

    def meanwhile(self, task: Callable[[], Awaitable[Any]]) -> Running[Any]:
        """Start something beside it."""
        return start(self.nursery, task)


@asynccontextmanager
async def standing(
    sessions: Sessions, verb: Callable[[Connection], Awaitable[Any]], *, before: str = "commit"
) -> AsyncIterator[Standing]:
    """Bring a transaction to where it stands; leaving the block early lets it go on."""
    session = await sessions.open()
    async with trio.open_nursery() as nursery:
        running = await session.start_and_stop(nursery, verb, before=before)
        with trio.fail_after(SOON_S):
            yield Standing(session, running, nursery)
            await session.go_on()


# ── leases ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_renewal_that_waited_past_its_lease_renews_nothing(
    judged: PostgresStore, sessions: Sessions
) -> None:
    lease = await take_lease(judged, lease_s=0.4)
    (node,) = await judged.list_nodes()
    lock = "select from node_leases where lease_id = $1 for no key update"

    async with trio.open_nursery() as nursery:
        async with holding(sessions, lock, lease.lease_id):
            renewal = start(nursery, partial(judged.renew_lease, lease, lease_s=LEASE_S))
            await sessions.until_blocked()
            await sessions.until_it_is_past(node.lease_until)
        answer = await renewal.result()

    assert not answer.held
    assert await judged.reap_lease() == lease


async def test_an_open_claim_does_not_hold_up_the_renewal(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, claiming(claim_of(lease))) as first:
        renewal = await judged.renew_lease(lease, lease_s=LEASE_S)
        await first.commit()

    assert renewal.held


async def test_a_renewal_does_not_hold_up_a_claim(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, renewing(lease)) as first:
        assert ids(await claim(judged, lease)) == [one.run_id]
        await first.commit()


async def test_ending_a_lease_waits_for_the_open_claim_and_hands_back_what_it_took(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, claiming(claim_of(lease))) as first:
        drain = first.meanwhile(partial(judged.end_lease, lease, hand_back=True))
        await sessions.until_blocked()
        assert ids(await first.commit()) == [one.run_id]
        await drain.result()

    run = await read(judged, one.run_id)
    assert (run.status, run.attempt, run.lease_epoch) == (Status.QUEUED, 1, 1)
    assert await judged.orphaned_runs(ALL) == []


async def test_a_tenure_owed_from_an_outage_is_handed_back_with_its_open_claim(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    owed, lease = await take_lease(judged), new_lease()

    async with standing(sessions, claiming(claim_of(owed))) as first:
        anew = first.meanwhile(partial(judged.take_lease, lease, lease_s=LEASE_S, hand_back=[owed]))
        await sessions.until_blocked()
        await first.commit()
        await anew.result()

    assert (await read(judged, one.run_id)).status is Status.QUEUED


async def test_an_earlier_tenure_is_ended_only_after_its_open_claim(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    await create(judged)
    old, now = await take_lease(judged), await take_lease(judged)

    async with standing(sessions, claiming(claim_of(old))) as first:
        cleaning = first.meanwhile(partial(judged.end_earlier_leases, now))
        await sessions.until_blocked()
        (claimed,) = await first.commit()
        assert await cleaning.result() == 1

    assert await judged.orphaned_runs(ALL) == [seen(claimed)]


async def test_a_lapsed_lease_with_an_open_claim_is_left_to_the_next_pass(
    judged: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    await make_tenant(judged)
    await create(judged)
    lease, later = await take_lease(judged), await take_lease(judged, "node-2")
    claimer = await sessions.open()

    async with trio.open_nursery() as nursery:
        running = await claimer.start_and_stop(nursery, claiming(claim_of(lease)))
        lapse = "update dpp.node_leases set lease_until = dpp.now() where lease_id = $1"
        for one in (lease, later):
            await admin.fetch(lapse, one.lease_id)
        assert [await judged.reap_lease(), await judged.reap_lease()] == [later, None]
        assert await judged.orphaned_runs(ALL) == []
        await claimer.go_on()
        told = await running.result()

    assert isinstance(told, list)
    (claimed,) = told
    assert await judged.reap_lease() == lease
    assert await judged.orphaned_runs(ALL) == [seen(claimed)]


async def test_nothing_is_claimed_under_a_lease_that_is_being_ended(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, ending_lease(lease, hand_back=False)) as first:
        late = first.meanwhile(partial(judged.claim_runs, claim_of(lease)))
        await sessions.until_blocked()
        await first.commit()
        assert await late.result() == LeaseGone()

    assert (await read(judged, one.run_id)).status is Status.QUEUED


async def test_a_claim_that_waited_past_its_lease_claims_nothing(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged, lease_s=1.0)
    (node,) = await judged.list_nodes()
    lock = "select from node_leases where lease_id = $1 for update"

    async with trio.open_nursery() as nursery:
        async with holding(sessions, lock, lease.lease_id):
            late = start(nursery, partial(judged.claim_runs, claim_of(lease)))
            await sessions.until_blocked()
            await sessions.until_it_is_past(node.lease_until)
        assert await late.result() == []

    run = await read(judged, one.run_id)
    assert (run.status, run.lease_epoch) == (Status.QUEUED, 0)


async def test_a_lease_that_lapses_between_the_statements_of_a_claim_claims_nothing(
    judged: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)
    stamping = "with room as materialized ("

    async with standing(sessions, claiming(claim_of(lease)), before=stamping) as first:
        await admin.execute("update dpp.node_leases set lease_until = dpp.now()")
        assert await first.commit() == []

    assert (await read(judged, one.run_id)).status is Status.QUEUED


async def test_a_drain_that_met_a_held_run_hands_it_back_when_asked_again(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    lease = await take_lease(judged)
    held, free = await begin(judged, lease), await begin(judged, lease)

    async with holding(sessions, HOLD_RUN, held.fence.run_id):
        assert await judged.end_lease(lease, hand_back=True) == 1
        assert (await read(judged, held.fence.run_id)).status is Status.PROCESSING
        assert (await read(judged, free.fence.run_id)).status is Status.QUEUED
    assert await judged.end_lease(lease, hand_back=True) == 0

    run = await read(judged, held.fence.run_id)
    assert (run.status, run.attempt) == (Status.QUEUED, 1)
    assert await judged.orphaned_runs(ALL) == []


# ── a claim that got no answer ────────────────────────────────────────────────────────────────────


async def test_an_unknown_claim_is_told_only_when_its_old_backend_is_done(
    judged: PostgresStore, sessions: Sessions
) -> None:
    """Told at once it would be told "nothing", and the run would be worked on by nobody."""
    await make_tenant(judged)
    await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, claiming(claim_of(lease))) as first:
        asked = first.meanwhile(partial(judged.claimed_under, lease))
        await sessions.until_blocked()
        claimed = await first.commit()
        assert await asked.result() == claimed

    assert len(claimed) == 1


async def test_an_unknown_claim_that_did_not_commit_took_nothing(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, claiming(claim_of(lease))) as first:
        asked = first.meanwhile(partial(judged.claimed_under, lease))
        await sessions.until_blocked()
        await first.die()
        assert await asked.result() == []

    assert ids(await claim(judged, lease)) == [one.run_id]


# ── claims ────────────────────────────────────────────────────────────────────────────────────────


async def test_two_claimers_share_a_queue_and_neither_waits(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    batch = [submission() for _ in range(5)]
    await submit(judged, *batch)
    lease, other = await take_lease(judged), await take_lease(judged, "node-2")

    async with standing(sessions, claiming(claim_of(lease, share=2))) as first:
        second = await claim(judged, other)
        taken = ids(await first.commit()) + ids(second)

    assert taken == [one.run_id for one in batch]


async def test_a_tenant_whose_turn_another_node_holds_is_passed_over(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged, "capped", plan="basic")
    await make_tenant(judged, "free")
    await submit(judged, *(submission("capped") for _ in range(4)), submission("free"))
    lease, other = await take_lease(judged), await take_lease(judged, "node-2")
    both = ("capped", "free")

    async with standing(sessions, claiming(claim_of(lease, "capped", share=1))) as first:
        second = await claim(judged, other, *both)
        await first.commit()

    assert [one.tenant_id for one in second] == ["free"]
    assert len(await claim(judged, other, *both)) == 1  # one of two was taken by the first


async def test_a_cap_is_counted_in_a_statement_after_the_lock(
    judged: PostgresStore, sessions: Sessions
) -> None:
    """The second claim begins before the first, with a snapshot in which nothing runs yet."""
    await make_tenant(judged, plan="basic")
    await submit(judged, *(submission() for _ in range(6)))
    lease, other = await take_lease(judged), await take_lease(judged, "node-2")

    async with standing(sessions, asking(other)) as holder:  # has the lease row of the other node
        second = holder.meanwhile(partial(judged.claim_runs, claim_of(other)))
        await sessions.until_blocked()
        assert len(await claim(judged, lease)) == 2
        await holder.commit()
        assert await second.result() == []


async def test_a_claim_beside_an_open_submit_neither_waits_nor_sees_it(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    there, coming = await create(judged), submission()
    lease = await take_lease(judged)

    async with standing(sessions, submitting(coming)) as first:
        assert ids(await claim(judged, lease)) == [there.run_id]
        await first.commit()

    assert ids(await claim(judged, lease)) == [coming.run_id]


@pytest.mark.parametrize("table", ["live_runs", "tenant_turns", "budgets", "node_leases"])
async def test_a_reference_that_is_being_inserted_holds_nobody_up(
    judged: PostgresStore, sessions: Sessions, admin: Session, table: str
) -> None:
    """An insert with a foreign key takes its target for key share: nothing of ours minds."""
    await make_tenant(judged, plan="basic")
    one, lease = await create(judged), await take_lease(judged)

    await admin.execute("begin")
    await admin.execute(f"select from dpp.{table} for key share")
    with trio.fail_after(SOON_S):
        claimed = await claim(judged, lease)
        answers = await judged.submit_runs([submission()], wait=False)
        answers += await judged.submit_runs([submission()], wait=True)
        assert (await judged.renew_lease(lease, lease_s=LEASE_S)).held
        if table != "live_runs":  # which the end deletes
            assert await judged.end_runs([end(claimed[0])], wait=False) == [SETTLED]
    await admin.execute("commit")

    assert ids(claimed) == [one.run_id]
    assert [type(answer) for answer in answers] == [Created, Created]


# ── cancels ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancel_that_met_a_claim_is_felt_by_the_attempt(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, claiming(claim_of(lease))) as first:
        cancel = first.meanwhile(partial(judged.cancel_run, "acme", one.run_id))
        await sessions.until_blocked()
        await first.commit()
        assert isinstance(await cancel.result(), CancelAsked)

    assert (await judged.follow([one.run_id], [], [])).canceled == (one.run_id,)


async def test_a_run_that_is_being_canceled_is_not_claimed(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)

    async with standing(sessions, cancelling(one.run_id)) as first:
        assert await claim(judged, lease) == []
        assert isinstance(await first.commit(), Ended)

    assert await claim(judged, lease) == []
    assert (await read(judged, one.run_id)).status is Status.CANCELED


async def test_a_cancel_that_met_a_settle_answers_how_the_run_ended(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, ending(end(claimed))) as first:
        cancel = first.meanwhile(partial(judged.cancel_run, "acme", claimed.fence.run_id))
        await sessions.until_blocked()
        assert await first.commit() == [SETTLED]
        ended = await cancel.result()

    assert ended == Ended(await read(judged, claimed.fence.run_id))
    assert (ended.run.status, ended.run.cancel_asked) == (Status.COMPLETED, False)


async def test_a_settle_that_met_a_cancel_keeps_its_outcome(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, cancelling(claimed.fence.run_id)) as first:
        settle = first.meanwhile(partial(judged.end_runs, [end(claimed)], wait=True))
        await sessions.until_blocked()
        assert isinstance(await first.commit(), CancelAsked)
        assert await settle.result() == [SETTLED]

    run = await read(judged, claimed.fence.run_id)
    assert (run.status, run.cancel_asked) == (Status.COMPLETED, True)


@pytest.mark.parametrize("how", ["drain", "fences"])
async def test_a_cancel_that_met_a_hand_back_ends_the_run(
    judged: PostgresStore, sessions: Sessions, how: str
) -> None:
    """It finds the row leased, waits, and sees it queued: guarded twice it would find neither.

    A drain holds the row alone. By fences the budget is held, too, and the cancel waits for that.
    """
    await make_tenant(judged)
    lease = await take_lease(judged)
    claimed = await begin(judged, lease)
    hand_back, answer = {
        "drain": (ending_lease(lease, hand_back=True), 0),
        "fences": (handing_back(claimed.fence), 1),
    }[how]

    async with standing(sessions, hand_back) as first:
        cancel = first.meanwhile(partial(judged.cancel_run, "acme", claimed.fence.run_id))
        await sessions.until_blocked()
        assert await first.commit() == answer
        assert isinstance(await cancel.result(), Ended)

    assert (await read(judged, claimed.fence.run_id)).status is Status.CANCELED


async def test_a_hand_back_that_met_a_cancel_leaves_the_run_to_be_ended(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    lease = await take_lease(judged)
    claimed = await begin(judged, lease)

    async with standing(sessions, cancelling(claimed.fence.run_id)) as first:
        await judged.end_lease(lease, hand_back=True)  # leaves what is held
        assert isinstance(await first.commit(), CancelAsked)

    assert await judged.orphaned_runs(ALL) == [seen(claimed)]
    assert await judged.take_back([seen(claimed)], Lapse.LOST) == 1
    assert (await read(judged, claimed.fence.run_id)).status is Status.CANCELED


# ── two who end one run ───────────────────────────────────────────────────────────────────────────


async def test_of_two_settlers_one_ends_the_run(judged: PostgresStore, sessions: Sessions) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    other = end(claimed, Completed(b"2", Micros(2)))

    async with standing(sessions, ending(end(claimed))) as first:
        second = first.meanwhile(partial(judged.end_runs, [other], wait=True))
        await sessions.until_blocked()
        assert await first.commit() == [SETTLED]
        assert await second.result() == [LeaseLost()]


async def test_a_settle_asked_again_waits_for_its_old_backend_and_tells_the_truth(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    mine = end(claimed)

    async with standing(sessions, ending(mine)) as first:
        again = first.meanwhile(partial(judged.end_runs, [mine], wait=True))
        await sessions.until_blocked()
        await first.commit()
        assert await again.result() == [SETTLED]

    assert await budget_of(judged) == (10 * DOLLAR, 99 * DOLLAR // 10, 0, DOLLAR // 10)


async def test_a_settle_asked_again_whose_old_backend_died_ends_the_run(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    mine = end(claimed)

    async with standing(sessions, ending(mine)) as first:
        again = first.meanwhile(partial(judged.end_runs, [mine], wait=True))
        await sessions.until_blocked()
        await first.die()
        assert await again.result() == [SETTLED]


async def test_a_settle_that_met_a_take_back_is_lost(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, taking_back([seen(claimed)], Lapse.LOST)) as first:
        settle = first.meanwhile(partial(judged.end_runs, [end(claimed)], wait=True))
        await sessions.until_blocked()
        assert await first.commit() == 1
        assert await settle.result() == [LeaseLost()]

    run = await read(judged, claimed.fence.run_id)
    assert (run.status, run.attempt) == (Status.QUEUED, 2)


async def test_ends_that_do_not_wait_leave_out_the_run_that_somebody_holds(
    judged: PostgresStore, sessions: Sessions
) -> None:
    """Waiting for it, they would keep the budgets of all the others meanwhile."""
    await make_tenant(judged)
    await make_tenant(judged, "other")
    lease = await take_lease(judged)
    held, beside = await begin(judged, lease), await begin(judged, lease)
    elsewhere = await begin(judged, lease, "other")
    batch = [end(held), end(beside), end(elsewhere)]

    async with holding(sessions, HOLD_RUN, held.fence.run_id):
        assert await judged.end_runs(batch, wait=False) == [Busy(), SETTLED, SETTLED]
        assert (await read(judged, held.fence.run_id)).status is Status.PROCESSING
        assert await judged.end_runs(batch, wait=False) == [Busy(), SETTLED, SETTLED]

    assert await judged.end_runs(batch, wait=False) == [SETTLED] * 3


async def test_a_late_end_that_met_an_open_claim_is_lost_once_the_claim_is_through(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    lost, other = await take_lease(judged), await take_lease(judged, "node-2")
    late = await begin(judged, lost)
    await judged.take_back([seen(late)], Lapse.LOST)

    async with standing(sessions, claiming(claim_of(other))) as first:
        assert await judged.end_runs([end(late)], wait=False) == [Busy()]
        await first.commit()

    assert await judged.end_runs([end(late)], wait=False) == [LeaseLost()]


async def test_a_settle_that_met_a_drain_is_lost(judged: PostgresStore, sessions: Sessions) -> None:
    await make_tenant(judged)
    lease = await take_lease(judged)
    claimed = await begin(judged, lease)

    async with standing(sessions, ending_lease(lease, hand_back=True)) as first:
        settle = first.meanwhile(partial(judged.end_runs, [end(claimed)], wait=True))
        await sessions.until_blocked()
        await first.commit()
        assert await settle.result() == [LeaseLost()]


async def test_a_take_back_that_met_a_settle_takes_nothing(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, ending(end(claimed))) as first:
        assert await judged.take_back([seen(claimed)], Lapse.LOST) == 0
        await first.commit()

    assert await judged.take_back([seen(claimed)], Lapse.LOST) == 0


async def test_a_hand_back_that_met_a_settle_hands_nothing_back(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, ending(end(claimed))) as first:
        assert await judged.hand_back_runs([claimed.fence]) == 0
        assert await first.commit() == [SETTLED]
    assert await judged.hand_back_runs([claimed.fence]) == 0


async def test_a_healthy_run_is_not_taken_back_on_what_was_seen_before(
    judged: PostgresStore, sessions: Sessions
) -> None:
    """Seen under a lost lease, the run is claimed anew while the reaper is on its way."""
    await make_tenant(judged)
    lost, healthy = await take_lease(judged), await take_lease(judged, "node-2")
    claimed = await begin(judged, lost)
    await judged.end_lease(lost, hand_back=False)
    scan = await judged.orphaned_runs(ALL)
    await judged.hand_back_runs([claimed.fence])

    async with standing(sessions, claiming(claim_of(healthy))) as first:
        assert await judged.take_back(scan, Lapse.LOST) == 0
        (again,) = await first.commit()
        assert await judged.take_back(scan, Lapse.LOST) == 0

    assert await judged.end_runs([end(again)], wait=True) == [SETTLED]


async def test_a_reaper_that_waited_for_the_row_looks_again(
    judged: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    """Its scan, its lock and the claim of another node interleave as badly as they can."""
    await make_tenant(judged)
    lost, healthy = await take_lease(judged), await take_lease(judged, "node-2")
    claimed = await begin(judged, lost)
    scan = [seen(claimed)]

    reaping = taking_back(scan, Lapse.LOST)
    async with standing(sessions, reaping, before="  from live_runs") as first:
        await judged.end_lease(lost, hand_back=True)  # needs no budget
        (again,) = await claim(judged, healthy)
        assert await first.commit() == 0

    assert (await read(judged, again.fence.run_id)).lease_epoch == 2
    assert await judged.end_runs([end(again)], wait=True) == [SETTLED]


async def test_a_run_that_changed_hands_while_a_page_was_taken_back_stays_there(
    judged: PostgresStore, sessions: Sessions
) -> None:
    """The lease that holds it then is younger than all that a statement which waits can see."""
    await make_tenant(judged)
    lost = await take_lease(judged)
    held, other = await begin(judged, lost), await begin(judged, lost)
    await judged.end_lease(lost, hand_back=False)
    scan = [seen(held), seen(other)]

    async with trio.open_nursery() as nursery:
        async with holding(sessions, HOLD_RUN, held.fence.run_id):
            reaping = start(nursery, partial(judged.take_back, scan, Lapse.LOST))
            while not reaping.over and not await sessions.until_blocked(0):  # noqa: ASYNC110
                await trio.sleep(LOOK_S)
            await judged.end_lease(lost, hand_back=True)  # needs no budget
            (again,) = await claim(judged, await take_lease(judged, "node-2"))
        await reaping.result()

    assert again.fence.run_id == other.fence.run_id
    assert await judged.end_runs([end(again)], wait=True) == [SETTLED]


async def test_two_reapers_spend_one_attempt(judged: PostgresStore, sessions: Sessions) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, taking_back([seen(claimed)], Lapse.LOST)) as first:
        assert await judged.take_back([seen(claimed)], Lapse.LOST) == 0
        assert await first.commit() == 1

    assert await judged.take_back([seen(claimed)], Lapse.LOST) == 0
    assert (await read(judged, claimed.fence.run_id)).attempt == 2


async def test_a_run_that_is_being_claimed_does_not_expire(
    judged: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)
    past = "available_at = dpp.now() - interval '2 hours', expires_at = dpp.now() - interval '1 minute'"  # noqa: E501
    await admin.execute(f"update dpp.live_runs set {past}")  # noqa: S608
    unstarted = await judged.unstarted_runs(ALL)
    claimer = await sessions.open()  # it judges by a clock of an hour ago
    await claimer.execute(
        "select set_config('dpp.fake_now', (now() - '1 hour'::interval)::text, false)"
    )

    async with trio.open_nursery() as nursery:
        running = await claimer.start_and_stop(nursery, claiming(claim_of(lease)))
        assert await judged.expire_runs(unstarted) == 0
        await claimer.go_on()
        assert ids(await running.result()) == [one.run_id]

    assert [one.run_id for one in unstarted] == [one.run_id]
    assert await judged.expire_runs(unstarted) == 0


async def test_a_run_that_is_expiring_is_not_canceled_too(
    judged: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    await admin.execute("update dpp.live_runs set expires_at = dpp.now()")
    unstarted = [Seen(one.run_id, "acme", None, 0)]

    async with standing(sessions, expiring(unstarted)) as first:
        cancel = first.meanwhile(partial(judged.cancel_run, "acme", one.run_id))
        await sessions.until_blocked()
        assert await first.commit() == 1
        ended = await cancel.result()

    assert isinstance(ended, Ended)
    assert ended.run.status is Status.EXPIRED


async def test_a_run_that_is_being_set_aside_is_not_settled(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, setting_aside(seen(claimed))) as first:
        settle = first.meanwhile(partial(judged.end_runs, [end(claimed)], wait=True))
        await sessions.until_blocked()
        assert await first.commit() is True
        assert await settle.result() == [Quarantined()]


async def test_a_run_that_is_being_settled_is_not_set_aside(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))

    async with standing(sessions, ending(end(claimed))) as first:
        late = first.meanwhile(partial(judged.quarantine_run, seen(claimed), {}))
        await sessions.until_blocked()
        assert await first.commit() == [SETTLED]
        assert await late.result() is False

    assert await judged.list_findings() == []


# ── intake ────────────────────────────────────────────────────────────────────────────────────────


async def at_once(tasks: list[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Start all, and return their answers in order."""
    async with trio.open_nursery() as nursery:
        running = [start(nursery, task) for task in tasks]
    return [await one.result() for one in running]


async def test_a_hundred_at_once_on_one_key_are_one_run(judged: PostgresStore) -> None:
    await make_tenant(judged)
    asked = [submission(key="order-1") for _ in range(100)]

    answers = await at_once([partial(submit_alone, judged, one) for one in asked])

    (created,) = [answer for answer in answers if isinstance(answer, Created)]
    rest = [answer for answer in answers if answer != created]
    assert rest == [Exists(created.run_id)] * 99
    assert await budget_of(judged) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)


async def test_two_requests_at_once_under_one_key_have_one_winner(judged: PostgresStore) -> None:
    await make_tenant(judged)
    asked = [submission(key="order-1", body="ab"[n % 2]) for n in range(40)]

    answers = await at_once([partial(submit_alone, judged, one) for one in asked])

    answered = list(zip(asked, answers, strict=True))
    ((winner, created),) = [pair for pair in answered if isinstance(pair[1], Created)]
    for one, answer in answered:
        if one is not winner:
            same = one.fingerprint == winner.fingerprint
            assert answer == (Exists(created.run_id) if same else ExistsWithDifferentRequest())


async def test_sixty_four_reserves_of_nine_on_ten_admit_one(judged: PostgresStore) -> None:
    await make_tenant(judged)
    asked = [submission(max_cost=9 * DOLLAR) for _ in range(64)]

    answers = await at_once([partial(submit_alone, judged, one) for one in asked])

    refused = InsufficientBudget(Micros(DOLLAR), required=Micros(9 * DOLLAR))
    assert sum(isinstance(answer, Created) for answer in answers) == 1
    assert answers.count(refused) == 63
    assert await budget_of(judged) == (10 * DOLLAR, DOLLAR, 9 * DOLLAR, 0)


async def test_twenty_calls_at_once_under_a_limit_of_ten_are_exactly_ten(
    judged: PostgresStore,
) -> None:
    await make_tenant(judged, plan="basic")
    asked = [submission(max_cost=DOLLAR // 100) for _ in range(20)]

    answers = await at_once([partial(submit_alone, judged, one) for one in asked])

    assert sum(isinstance(answer, Created) for answer in answers) == 10
    limited = [answer for answer in answers if isinstance(answer, RateLimited)]
    assert len(limited) == 10
    assert {answer.window.reset_s for answer in limited} <= {59, 60}
    assert await budget_of(judged) == (10 * DOLLAR, 99 * DOLLAR // 10, DOLLAR // 10, 0)


async def test_a_submit_asked_again_waits_for_its_old_backend_and_tells_the_truth(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    batch = [submission(), submission()]

    async with standing(sessions, submitting(*batch)) as first:
        again = first.meanwhile(partial(judged.submit_runs, batch, wait=True))
        await sessions.until_blocked()
        await first.commit()
        assert await again.result() == [Exists(one.run_id) for one in batch]


async def test_a_submit_asked_again_whose_old_backend_died_creates_the_same_runs(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = submission()

    async with standing(sessions, submitting(one)) as first:
        again = first.meanwhile(partial(judged.submit_runs, [one], wait=True))
        await sessions.until_blocked()
        await first.die()
        (created,) = await again.result()

    assert isinstance(created, Created)
    assert created.run_id == one.run_id


async def test_a_batch_that_waited_reads_the_books_anew(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged, deposit=1)

    async with standing(sessions, posting_transfer(posting(DOLLAR, "more"))) as first:
        late = first.meanwhile(partial(judged.submit_runs, [submission()], wait=True))
        await sessions.until_blocked()
        assert isinstance(await first.commit(), Posted)
        (answer,) = await late.result()

    assert isinstance(answer, Created)
    assert answer.seq == 3


async def test_a_rate_window_that_ended_while_the_batch_waited_is_over(
    judged: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    await make_tenant(judged, plan="basic")
    full = "window_count = 10, window_from = dpp.now() - interval '59.6 seconds'"
    (row,) = await admin.fetch(f"update dpp.budgets set {full} returning window_from")  # noqa: S608
    over = row["window_from"] + timedelta(seconds=60)

    async with trio.open_nursery() as nursery:
        async with holding(sessions, "select from budgets for no key update"):
            late = start(nursery, partial(judged.submit_runs, [submission()], wait=True))
            await sessions.until_blocked()
            await sessions.until_it_is_past(over)
        (answer,) = await late.result()

    assert isinstance(answer, Created)
    assert answer.window is not None
    assert answer.window.remaining == 9


@pytest.mark.parametrize("what", ["revoked", "expired", "suspended"])
async def test_what_happened_to_key_and_tenant_while_the_batch_waited_counts(
    judged: PostgresStore, sessions: Sessions, admin: Session, what: str
) -> None:
    await make_tenant(judged)
    until = "update dpp.api_keys set expires_at = dpp.now() + interval '0.4 seconds' returning expires_at"  # noqa: E501

    async with trio.open_nursery() as nursery:
        async with holding(sessions, "select from budgets for no key update"):
            moment = await admin.fetchval(until) if what == "expired" else None
            late = start(nursery, partial(judged.submit_runs, [submission()], wait=True))
            await sessions.until_blocked()
            if what == "revoked":
                await judged.revoke_key("acme", key_of("acme"), operator="ops")
            elif what == "suspended":
                await judged.set_suspended("acme", suspended=True, operator="ops")
            else:
                await sessions.until_it_is_past(moment)
        (answer,) = await late.result()

    assert answer == (TenantSuspended() if what == "suspended" else KeyDead())


# ── transfers and tenants ─────────────────────────────────────────────────────────────────────────


async def test_a_deposit_asked_again_while_it_commits_is_posted_once(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    one = posting(DOLLAR, "more")

    async with standing(sessions, posting_transfer(one)) as first:
        again = first.meanwhile(partial(judged.post_transfer, one))
        await sessions.until_blocked()
        assert await first.commit() == await again.result()

    assert (await budget_of(judged))[0] == 11 * DOLLAR


async def test_sixty_four_withdrawals_of_nine_on_ten_pay_one(judged: PostgresStore) -> None:
    await make_tenant(judged)
    asked = [posting(9 * DOLLAR, f"out-{n}", kind=Kind.WITHDRAW) for n in range(64)]

    answers = await at_once([partial(judged.post_transfer, one) for one in asked])

    assert sum(isinstance(answer, Posted) for answer in answers) == 1
    assert answers.count(Overdrawn(Micros(DOLLAR))) == 63


@pytest.mark.parametrize("same", [True, False])
async def test_of_two_who_make_one_tenant_one_makes_it(
    judged: PostgresStore, sessions: Sessions, *, same: bool
) -> None:
    mine = new_tenant("acme")
    other = mine if same else evolve(mine, key=new_key("another", "acme"))

    async with standing(sessions, making_tenant(mine)) as first:
        second = first.meanwhile(partial(judged.create_tenant, other))
        await sessions.until_blocked()
        made = await first.commit()
        answer = await second.result()

    assert isinstance(made, Tenant)
    assert answer == (made if same else TenantExists())
    listed = await judged.list_keys("acme", before=None, limit=ALL, ended=True)
    assert [key.key_id for key in listed] == [key_of("acme")]


# ── one held row, and everybody else ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["submits", "ends", "cancels", "transfers"])
async def test_those_who_wait_for_a_held_budget_leave_connections_for_the_others(
    judged: PostgresStore, sessions: Sessions, admin: Session, what: str
) -> None:
    """A tenant whose row a frozen client holds may ask as often as it likes: others are served."""
    await make_tenant(judged, "held", deposit=100 * DOLLAR)
    await make_tenant(judged, "free")
    lease = await take_lease(judged)
    claimed = [await begin(judged, lease, "held") for _ in range(MANY)]
    await admin.execute("alter role dpp_app in database dpp_shared set lock_timeout = 0")
    await judged.close()
    asked: dict[str, list[Callable[[], Awaitable[Any]]]] = {
        "submits": [
            partial(judged.submit_runs, [submission("held")], wait=True) for _ in range(MANY)
        ],
        "ends": [partial(judged.end_runs, [end(one)], wait=True) for one in claimed],
        "cancels": [partial(judged.cancel_run, "held", one.fence.run_id) for one in claimed],
        "transfers": [
            partial(judged.post_transfer, posting(1, f"ref-{n}", tenant_id="held"))
            for n in range(MANY)
        ],
    }
    lock = "select from budgets where tenant_id = 'held' for no key update"

    async with trio.open_nursery() as nursery:
        async with holding(sessions, lock):
            waiting = [start(nursery, task) for task in asked[what]]
            await sessions.until_blocked(1)
            with trio.fail_after(BEFORE_THEY_GIVE_UP_S):
                (answer,) = await judged.submit_runs([submission("free")], wait=False)
            assert await sessions.until_blocked(1) == 1  # one waits for the row, whoever else asks
        for one in waiting:
            await one.result()

    assert isinstance(answer, Created)
