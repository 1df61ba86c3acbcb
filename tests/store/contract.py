"""The contract of the store: what each verb of `dpp.ports` promises, whoever implements it.

`test_contract.py` runs these classes on PostgreSQL and on the fake. A `world` is a store and a
clock that stands still until a test moves it; on PostgreSQL both judges look at the books after
every test.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from attrs import evolve

from dpp.admission import (
    Busy,
    Created,
    Exists,
    ExistsWithDifferentRequest,
    InsufficientBudget,
    KeyDead,
    MaxCostTooHigh,
    MaxCostTooLow,
    PackNotAllowed,
    PlanUnknown,
    QueueFull,
    RateLimited,
    Submission,
    TenantFrozen,
    TenantSuspended,
    Window,
)
from dpp.blobs import Attempt, BlobKey, Pointer
from dpp.cancels import CancelAsked, Ended, RunUnknown
from dpp.claims import Claimed, Seen, Turn
from dpp.findings import Finding
from dpp.keys import Key
from dpp.leases import Fence, Lapse, LeaseGone, Node, Renewal
from dpp.ledger import (
    Budget,
    Entry,
    Kind,
    NoSuchRun,
    NotEnded,
    Overdrawn,
    Posted,
    ReferenceReused,
    RefundTooHigh,
    TenantUnknown,
)
from dpp.listings import EVERYTHING, RunFilter, RunPage
from dpp.moments import FIRST, LAST
from dpp.money import ZERO, Micros
from dpp.neighbours import Neighbour, Offer
from dpp.pricing import Appraised, InputError, InputsInvalid, PackUnknown
from dpp.runs import ErrorCode, Failure, Progress, Run, Status, StoredResult
from dpp.settlement import (
    CanceledWhileRunning,
    Completed,
    FailedByItself,
    FailedByPlatform,
    LeaseLost,
    Quarantined,
    Requeued,
    Settled,
)
from dpp.tenants import Tenant, TenantExists
from dpp.watches import Changes, RunEvent, Watch
from tests.conftest import LIMITS
from tests.store.examples import (
    DOLLAR,
    LEASE_S,
    PRIORITIES,
    end,
    ids,
    key_of,
    new_key,
    new_lease,
    new_tenant,
    posting,
    run_id,
    submission,
)
from tests.store.steps import (
    ALL,
    begin,
    books_of,
    budget_of,
    claim,
    claim_of,
    create,
    end_one,
    make_tenant,
    orphans,
    read,
    settle,
    submit,
    take_lease,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpp.ports import Store
    from dpp.settlement import Outcome
    from tests.store.worlds import World

WEEK = timedelta(days=7)
REFUSED = Failure(ErrorCode.PACK_REFUSED, "no such option")
CENT = DOLLAR // 100


def queued(one: Submission, now: datetime, **changes: Any) -> Run:
    """Return the run of a submission as it is first seen."""
    run = Run(
        run_id=one.run_id,
        tenant_id=one.tenant_id,
        status=Status.QUEUED,
        pack_type=one.pack_type,
        idempotency_key=one.idempotency_key,
        attempt=1,
        lease_epoch=0,
        created_at=now,
        started_at=None,
        finished_at=None,
        expires_at=now + WEEK,
        max_cost=one.max_cost,
        minimum_fee=Micros(0),
        actual_cost=None,
        policy="0/0/0",
        priority=one.priority,
        timebox_s=one.timebox_s,
        cancel_asked=False,
        trace_id=one.trace_id,
        progress=None,
        result=None,
        result_key=None,
        result_sha256=None,
        failure=None,
    )
    return evolve(run, **changes)


def seen(claimed: Claimed) -> Seen:
    """Return an attempt as a scan sees it."""
    fence = claimed.fence
    return Seen(fence.run_id, claimed.tenant_id, fence.lease_id, fence.lease_epoch)


async def spend_attempts(store: Store, lease: Any, claimed: Claimed, count: int) -> Claimed:
    """Lose an attempt and claim anew, `count` times."""
    for _ in range(count):
        assert await store.take_back([seen(claimed)], Lapse.LOST) == 1
        (claimed,) = await claim(store, lease, claimed.tenant_id)
    return claimed


class SubmitContract:
    async def test_a_created_run_is_there_with_its_reserve(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = submission(max_cost=3 * DOLLAR)

        answers = await store.submit_runs([one], wait=True)

        assert answers == [
            Created(
                one.run_id,
                seq=2,
                minimum_fee=Micros(0),
                policy="0/0/0",
                created_at=world.now,
                available_at=world.now,
                expires_at=world.now + WEEK,
                result_days=30,
                budget_day=world.now.date(),
                window=None,
            )
        ]
        assert await store.get_run("acme", one.run_id) == queued(one, world.now)
        assert await budget_of(store) == (10 * DOLLAR, 7 * DOLLAR, 3 * DOLLAR, 0)

    async def test_the_minimum_fee_is_computed_at_admission_and_kept(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        one = submission(max_cost=DOLLAR)

        (answer,) = await submit(store, one)
        await store.set_plan("acme", "unlimited", operator="ops")

        assert (answer.minimum_fee, answer.policy) == (20_000, "5000/20000/100000")
        run = await read(store, one.run_id)
        assert (run.minimum_fee, run.policy) == (20_000, "5000/20000/100000")

    async def test_the_same_request_again_is_the_same_run(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        first = await create(store, key="order-1")
        before = await books_of(store)

        again = await submit(store, submission(key="order-1"))

        assert again == [Exists(first.run_id)]
        assert await books_of(store) == before

    async def test_asked_again_under_the_same_ids_it_answers_the_same_runs(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        batch = [submission(), submission(), submission(max_cost=100 * DOLLAR)]
        first = await submit(store, *batch)
        before = await books_of(store)

        again = await submit(store, *batch)

        assert [type(answer) for answer in first] == [Created, Created, InsufficientBudget]
        assert again == [Exists(batch[0].run_id), Exists(batch[1].run_id), first[2]]
        assert await books_of(store) == before

    async def test_a_key_with_another_request_is_refused(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await create(store, key="order-1")
        before = await books_of(store)

        answer = await submit(store, submission(key="order-1", body="another request"))

        assert answer == [ExistsWithDifferentRequest()]
        assert await books_of(store) == before

    async def test_one_key_twice_in_a_batch_is_one_run(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        first = submission(key="order-1")

        answers = await submit(
            store,
            first,
            submission(key="order-1"),
            submission(key="order-1", body="another request"),
        )

        assert isinstance(answers[0], Created)
        assert answers[1:] == [Exists(first.run_id), ExistsWithDifferentRequest()]
        assert await budget_of(store) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)

    async def test_a_key_is_the_tenants_own(self, world: World) -> None:
        store = world.store
        await make_tenant(store, "one")
        await make_tenant(store, "two")

        answers = await submit(
            store, submission("one", key="order-1"), submission("two", key="order-1", body="b")
        )

        assert [type(answer) for answer in answers] == [Created, Created]

    async def test_a_key_outlives_the_end_of_its_run(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store), key="order-1")
        await end_one(store, claimed)

        answers = await submit(
            store, submission(key="order-1"), submission(key="order-1", body="another request")
        )

        assert answers == [Exists(claimed.fence.run_id), ExistsWithDifferentRequest()]

    @pytest.mark.parametrize(
        ("one", "plan", "answer"),
        [
            (
                submission(appraisal=PackUnknown(("echo",))),
                "unlimited",
                PackUnknown(("echo",)),
            ),
            (submission(pack_type="llm"), "picky", PackNotAllowed(("decision", "echo"))),
            (
                submission(appraisal=InputsInvalid((InputError("/inputs", "no"),))),
                "unlimited",
                InputsInvalid((InputError("/inputs", "no"),)),
            ),
            (
                submission(appraisal=Appraised(floor=Micros(DOLLAR + 1))),
                "unlimited",
                MaxCostTooLow(Micros(DOLLAR + 1)),
            ),
            (submission(max_cost=4_999), "fee", MaxCostTooLow(Micros(5_000))),
            (submission(max_cost=5 * DOLLAR + 1), "picky", MaxCostTooHigh(Micros(5 * DOLLAR))),
            (
                submission(max_cost=10 * DOLLAR + 1),
                "unlimited",
                InsufficientBudget(Micros(10 * DOLLAR), required=Micros(10 * DOLLAR + 1)),
            ),
        ],
    )
    async def test_a_refusal_reserves_nothing_and_burns_no_key(
        self, world: World, one: Submission, plan: str, answer: object
    ) -> None:
        store = world.store
        await make_tenant(store, plan=plan)
        before = await books_of(store)

        assert await submit(store, one) == [answer]

        assert await books_of(store) == before
        await create(store, key=one.idempotency_key, max_cost=DOLLAR // 2, body="mended")

    async def test_a_suspended_tenant_is_refused_until_it_is_resumed(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        old = await create(store, key="order-1")
        await store.set_suspended("acme", suspended=True, operator="ops")
        before = await books_of(store)

        answers = await submit(store, submission(key="order-2"), submission(key="order-1"))

        assert answers == [TenantSuspended(), Exists(old.run_id)]
        assert await books_of(store) == before
        await store.set_suspended("acme", suspended=False, operator="ops")
        await create(store, key="order-2")

    async def test_a_frozen_tenant_still_learns_of_its_runs(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        old = await create(store, key="order-1")
        await store.quarantine_run(Seen(old.run_id, "acme", None, 0), {})
        before = await books_of(store)

        answers = await submit(store, submission(key="order-2"), submission(key="order-1"))

        assert answers == [TenantFrozen(), Exists(old.run_id)]
        assert await books_of(store) == before

    async def test_a_key_that_was_revoked_meanwhile_is_dead(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await store.create_key(new_key("another", "acme"), operator="ops")
        await store.revoke_key("acme", key_of("acme"), operator="ops")
        before = await books_of(store)

        answers = await submit(
            store, submission(key="order-1"), submission(key="order-2", key_id="another")
        )

        assert answers[0] == KeyDead()
        assert isinstance(answers[1], Created)
        assert (await books_of(store))[0][1][1:] == before[0][1]
        await create(store, key="order-1", key_id="another")

    async def test_a_key_dies_at_the_moment_it_expires(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await store.create_key(new_key("brief", "acme", lives_s=10), operator="ops")

        await world.advance(9.999)
        await create(store, key_id="brief")
        await world.advance(0.001)

        assert await submit(store, submission(key_id="brief")) == [KeyDead()]

    async def test_exactly_what_is_available_can_be_reserved(self, world: World) -> None:
        store = world.store
        await make_tenant(store)

        answers = await submit(store, submission(max_cost=10 * DOLLAR), submission(max_cost=1))

        assert isinstance(answers[0], Created)
        assert answers[1] == InsufficientBudget(Micros(0), required=Micros(1))
        assert await budget_of(store) == (10 * DOLLAR, 0, 10 * DOLLAR, 0)

    async def test_answers_come_in_the_order_of_the_batch(self, world: World) -> None:
        store = world.store
        for tenant_id in ("zeta", "acme", "mid"):
            await make_tenant(store, tenant_id, deposit=2 * DOLLAR)
        batch = [
            submission("zeta"),
            submission("acme", max_cost=3 * DOLLAR),
            submission("mid"),
            submission("acme"),
            submission("zeta", appraisal=PackUnknown()),
            submission("zeta"),
            submission("zeta"),
            submission("acme"),
        ]

        answers = await submit(store, *batch)

        assert [type(answer) for answer in answers] == [
            Created,
            InsufficientBudget,
            Created,
            Created,
            PackUnknown,
            Created,
            InsufficientBudget,
            Created,
        ]
        created = [one for one in answers if isinstance(one, Created)]
        assert [one.run_id for one in created] == [batch[n].run_id for n in (0, 2, 3, 5, 7)]
        assert [one.seq for one in created] == [2, 2, 2, 3, 3]

    async def test_without_waiting_it_answers_the_same_when_nobody_holds_a_budget(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)

        answers = await store.submit_runs([submission(), submission()], wait=False)

        assert [type(answer) for answer in answers] == [Created, Created]

    async def test_an_empty_batch_is_answered(self, world: World) -> None:
        assert await world.store.submit_runs([], wait=True) == []

    async def test_twenty_at_once_under_a_limit_of_ten_are_exactly_ten(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="basic")

        answers = await submit(store, *(submission(max_cost=CENT) for _ in range(20)))

        assert [answer.window for answer in answers[:10]] == [
            Window(10, left, 60) for left in range(9, -1, -1)
        ]
        assert answers[10:] == [RateLimited(Window(10, 0, 60))] * 10
        assert await budget_of(store) == (10 * DOLLAR, 10 * DOLLAR - 10 * CENT, 10 * CENT, 0)

    async def test_a_window_ends_exactly_and_retry_after_is_exact(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="basic")
        await world.advance(1_000)
        await submit(store, *(submission(max_cost=CENT) for _ in range(4)))
        await world.advance(30)
        await submit(store, *(submission(max_cost=CENT) for _ in range(6)))

        assert await submit(store, submission()) == [RateLimited(Window(10, 0, 30))]
        await world.advance(29.5)
        assert await submit(store, submission()) == [RateLimited(Window(10, 0, 1))]
        await world.advance(0.5)
        (answer,) = await submit(store, submission())
        assert answer.window == Window(10, 9, 60)

    async def test_a_refused_submission_does_not_use_up_the_rate(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="basic", deposit=DOLLAR)

        answers = await submit(
            store,
            *(submission(max_cost=2 * DOLLAR) for _ in range(30)),
            *(submission(max_cost=CENT) for _ in range(11)),
        )

        assert [type(answer) for answer in answers] == [
            *[InsufficientBudget] * 30,
            *[Created] * 10,
            RateLimited,
        ]

    async def test_the_queue_takes_what_the_plan_says_and_running_runs_leave_it(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, plan="short")
        answers = await submit(store, submission(), submission(), submission())
        assert [type(answer) for answer in answers[:2]] == [Created, Created]
        assert answers[2] == QueueFull(2)

        await claim(store, await take_lease(store), share=1)

        answers = await submit(store, submission(), submission())
        assert [type(answer) for answer in answers] == [Created, QueueFull]

    async def test_each_queue_is_as_long_as_its_own_tenants_plan_says(self, world: World) -> None:
        store = world.store
        for name, plan in (("a", "short"), ("b", "unlimited"), ("c", "short")):
            await make_tenant(store, name, plan=plan)
            await submit(store, submission(name), submission(name))

        batch = [submission(name) for name in ("c", "b", "a", "b")]

        assert [type(one) for one in await submit(store, *batch)] == [
            *(QueueFull, Created),
            *(QueueFull, Created),
        ]


class BusyContract:
    """A budget row that somebody else holds costs its own tenant's items, and nobody else's."""

    async def test_submissions_of_other_tenants_are_answered_in_the_same_call(
        self, world: World
    ) -> None:
        store = world.store
        for tenant_id in ("a", "held", "z"):
            await make_tenant(store, tenant_id)
        batch = [submission(name) for name in ("z", "held", "a", "held", "z")]

        async with world.held("held"):
            answers = await store.submit_runs(batch, wait=False)

        assert [type(answer) for answer in answers] == [Created, Busy, Created, Busy, Created]
        assert await store.submit_runs(batch, wait=True) == [
            Exists(batch[0].run_id),
            evolve(answers[0], run_id=batch[1].run_id),
            Exists(batch[2].run_id),
            evolve(answers[4], run_id=batch[3].run_id),
            Exists(batch[4].run_id),
        ]

    async def test_ends_of_other_tenants_are_answered_in_the_same_call(self, world: World) -> None:
        store = world.store
        lease = await take_lease(store)
        claimed = {}
        for tenant_id in ("a", "held"):
            await make_tenant(store, tenant_id)
            claimed[tenant_id] = await begin(store, lease, tenant_id)
        batch = [end(claimed["held"]), end(claimed["a"])]

        async with world.held("held"):
            answers = await store.end_runs(batch, wait=False)

        settled = Settled(Status.COMPLETED, Micros(DOLLAR // 10))
        assert answers == [Busy(), settled]
        assert await store.end_runs(batch, wait=False) == [settled, settled]

    async def test_when_all_are_held_nothing_is_done(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))

        async with world.held("acme"):
            assert await store.submit_runs([submission()] * 2, wait=False) == [Busy()] * 2
            assert await store.end_runs([end(claimed)], wait=False) == [Busy()]

        assert await budget_of(store) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)

    async def test_the_reaper_leaves_what_is_held_to_its_next_pass(self, world: World) -> None:
        store = world.store
        lease = await take_lease(store)
        for tenant_id in ("a", "held"):
            await make_tenant(store, tenant_id)
            await begin(store, lease, tenant_id)
            await create(store, tenant_id)
        await store.end_lease(lease, hand_back=False)
        await world.advance(WEEK.total_seconds())
        lost, unstarted = await store.orphaned_runs(ALL), await store.unstarted_runs(ALL)

        async with world.held("held"):
            assert await store.take_back(lost, Lapse.LOST) == 1
            assert await store.expire_runs(unstarted) == 1

        assert await store.take_back(lost, Lapse.LOST) == 1
        assert await store.expire_runs(unstarted) == 1

    async def test_reads_claims_and_leases_do_not_wait_for_budgets(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        one = await create(store)

        async with world.held("acme"):
            assert (await read(store, one.run_id)).status is Status.QUEUED
            assert ids(await claim(store, lease)) == [one.run_id]
            assert (await store.renew_lease(lease, lease_s=LEASE_S)).held
            assert await store.hand_back_runs([claimed.fence]) == 0  # waits for nobody either
            assert (await store.follow([one.run_id], [], [])).canceled == ()


class ClaimContract:
    async def test_a_claim_stamps_the_run_and_brings_what_executing_it_needs(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        one = await create(store, priority=3, timebox_s=7)
        lease = await take_lease(store)
        await world.advance(5)

        claimed = await store.claim_runs(claim_of(lease))

        assert claimed == [
            Claimed(
                fence=Fence(one.run_id, lease.lease_id, 1),
                tenant_id="acme",
                pack_type="echo",
                inputs=one.inputs,
                max_cost=one.max_cost,
                minimum_fee=Micros(20_000),
                timebox_s=7,
                priority=3,
                available_at=world.now - timedelta(seconds=5),
                attempt=1,
                trace_id=one.trace_id,
                created_at=world.now - timedelta(seconds=5),
                weight=1,
            )
        ]
        run = await read(store, one.run_id)
        assert (run.status, run.lease_epoch, run.started_at) == (
            Status.PROCESSING,
            1,
            world.now,
        )
        assert await claim(store, lease) == []

    async def test_never_more_than_the_limit(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        batch = [submission(max_cost=CENT) for _ in range(7)]
        await submit(store, *batch)
        lease = await take_lease(store)

        first = await claim(store, lease, share=3)
        second = await claim(store, lease, share=3)
        third = await claim(store, lease, share=3)

        assert ids(first + second + third) == [one.run_id for one in batch]
        assert [len(first), len(second), len(third)] == [3, 3, 1]

    async def test_a_claim_takes_of_each_tenant_its_share(self, world: World) -> None:
        store = world.store
        for tenant_id in ("a", "b", "c", "d"):
            await make_tenant(store, tenant_id)
            await submit(store, *(submission(tenant_id, max_cost=CENT) for _ in range(5)))
        lease = await take_lease(store)

        claimed = await claim(store, lease, "c", "d", "a", share=2)

        taken = sorted(one.tenant_id for one in claimed)
        assert taken == ["a", "a", "c", "c", "d", "d"]

    async def test_only_the_tenants_that_were_named(self, world: World) -> None:
        store = world.store
        await make_tenant(store, "a")
        await make_tenant(store, "b")
        await create(store, "a")
        b = await create(store, "b")
        lease = await take_lease(store)

        assert ids(await claim(store, lease, "b", "nobody")) == [b.run_id]
        assert await store.claim_runs(evolve(claim_of(lease), turns=())) == []

    async def test_priority_by_priority_and_first_come_within_one(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        made = []
        for priority in (5, 9, 0, 5, 0, 9):
            made.append(await create(store, priority=priority))
            await world.advance(1)
        lease = await take_lease(store)

        claimed = ids(await claim(store, lease, share=4)) + ids(await claim(store, lease))

        assert claimed == [made[n].run_id for n in (2, 4, 0, 3, 1, 5)]

    async def test_a_minute_of_waiting_makes_up_for_a_priority(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        made = [await create(store, priority=9)]
        for priority, wait_s in ((7, 119), (9, 2), (7, 60), (8, 61)):
            await world.advance(wait_s)  # 0, 119, 121, 181, 242
            made.append(await create(store, priority=priority))
        lease = await take_lease(store)
        # By 60 s a priority: 540, 539, 661, 601, 722.

        claimed = [await claim(store, lease, share=1) for _ in made]

        assert [one.fence.run_id for (one,) in claimed] == [made[n].run_id for n in (1, 0, 3, 2, 4)]

    async def test_the_heads_of_all_priorities_share_a_claim(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        old = [await create(store, priority=5) for _ in range(3)]
        await world.advance(200)
        urgent, first = await create(store, priority=0), await create(store, priority=3)
        await world.advance(1)
        for priority in (3, 9):
            await create(store, priority=priority)

        claimed = await claim(store, await take_lease(store), share=5)

        assert set(ids(claimed)) == {one.run_id for one in (urgent, *old, first)}

    async def test_what_cannot_be_claimed_takes_no_place_of_what_can(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        for _ in range(3):
            await create(store, priority=0, pack_type="decision")
        echo = await create(store, priority=9)

        claimed = await claim(store, await take_lease(store), share=2)

        assert ids(claimed) == [echo.run_id]

    async def test_an_attempt_says_the_weight_of_its_plan(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="heavy")
        await create(store)
        lease = await take_lease(store)

        (claimed,) = await claim(store, lease)

        assert claimed.weight == 3
        assert await store.claimed_under(lease) == [claimed]

    async def test_low_priority_queued_first_still_runs(self, world: World) -> None:
        """The bound of one priority is not another's."""
        store = world.store
        await make_tenant(store)
        low = await create(store, priority=9)
        await world.advance(1)
        await create(store, priority=0)
        lease = await take_lease(store)
        (urgent,) = await claim(store, lease, share=1)
        lows: list[datetime | None] = [None] * PRIORITIES
        lows[urgent.priority] = urgent.available_at

        claimed = await claim(store, lease, bounded=[Turn("acme", ALL, tuple(lows))])

        assert ids(claimed) == [low.run_id]

    async def test_nothing_below_a_bound_is_claimed_and_all_from_it_on(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        below = await create(store)
        await world.advance(1)
        at_bound = await create(store)
        bound = world.now
        await world.advance(1)
        above = await create(store)
        lease = await take_lease(store)

        claimed = await claim(store, lease, bounded=[Turn("acme", ALL, (bound,) * PRIORITIES)])

        assert ids(claimed) == [at_bound.run_id, above.run_id]
        assert ids(await claim(store, lease)) == [below.run_id]

    async def test_a_plans_cap_is_exact(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="basic")
        await submit(store, *(submission(max_cost=CENT) for _ in range(5)))
        lease, other = await take_lease(store), await take_lease(store, "node-2")

        first = await claim(store, lease)
        assert len(first) == 2
        assert await claim(store, other) == []

        await end_one(store, first[0], Completed(b"1", Micros(CENT)))
        assert len(await claim(store, other)) == 1
        assert await claim(store, lease) == []

    async def test_a_tenant_at_its_cap_costs_the_others_nothing(self, world: World) -> None:
        store = world.store
        await make_tenant(store, "a", plan="basic")
        await make_tenant(store, "b")
        await submit(store, *(submission("a", max_cost=CENT) for _ in range(4)))
        lease = await take_lease(store)
        await claim(store, lease, "a")
        await submit(store, *(submission("b", max_cost=CENT) for _ in range(2)))

        claimed = await claim(store, lease, "a", "b", share=2)

        assert [one.tenant_id for one in claimed] == ["b", "b"]

    async def test_only_packs_that_the_node_has(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        decision = await create(store, pack_type="decision")
        echo = await create(store)
        lease = await take_lease(store)

        assert ids(await claim(store, lease)) == [echo.run_id]
        assert ids(await claim(store, lease, packs=("llm", "decision"))) == [decision.run_id]

    async def test_a_run_that_expired_is_left_alone_unless_it_was_started(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store, lease_s=WEEK.total_seconds() * 2)
        started = await begin(store, lease)
        await store.hand_back_runs([started.fence])
        await create(store)

        await world.advance(WEEK.total_seconds())

        assert ids(await claim(store, lease)) == [started.fence.run_id]

    async def test_a_run_can_be_claimed_until_the_moment_it_expires(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        await world.advance(WEEK.total_seconds() - 0.001)
        lease = await take_lease(store)

        assert ids(await claim(store, lease)) == [one.run_id]

    async def test_accepted_runs_of_a_suspended_tenant_go_on(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        await store.set_suspended("acme", suspended=True, operator="ops")

        assert ids(await claim(store, await take_lease(store))) == [one.run_id]

    @pytest.mark.parametrize("gone", ["unknown", "lapsed", "ended", "reaped"])
    async def test_without_a_living_lease_nothing_is_claimed(self, world: World, gone: str) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        lease = new_lease() if gone == "unknown" else await take_lease(store)
        if gone in {"lapsed", "reaped"}:
            await world.advance(LEASE_S)
        if gone == "ended":
            await store.end_lease(lease, hand_back=True)
        if gone == "reaped":
            assert await store.reap_lease() == lease

        assert await store.claim_runs(claim_of(lease)) == LeaseGone()
        assert (await read(store, one.run_id)).status is Status.QUEUED

    async def test_the_epoch_rises_with_each_claim_and_never_falls(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        epochs = [claimed.fence.lease_epoch]
        for _ in range(3):
            await store.hand_back_runs([claimed.fence])
            assert (await read(store, claimed.fence.run_id)).lease_epoch == epochs[-1]
            (claimed,) = await claim(store, lease)
            epochs.append(claimed.fence.lease_epoch)

        assert epochs == [1, 2, 3, 4]
        assert claimed.attempt == 1

    async def test_what_is_asked_for_after_a_lost_answer_is_every_attempt_of_the_lease(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, "a")
        await make_tenant(store, "b")
        await submit(store, submission("a"), submission("b"), submission("a"))
        lease, other = await take_lease(store), await take_lease(store, "node-2")
        assert await store.claimed_under(lease) == []
        claimed = await claim(store, lease, "a")
        await claim(store, other, "b")

        asked = await store.claimed_under(lease)

        assert asked == sorted(claimed, key=lambda one: one.fence.run_id)
        await store.end_lease(lease, hand_back=True)
        assert await store.claimed_under(lease) == LeaseGone()

    async def test_tenants_with_queued_runs_are_listed_by_name_and_page(self, world: World) -> None:
        store = world.store
        for tenant_id in ("d", "b", "a", "c", "idle"):
            await make_tenant(store, tenant_id)
        await submit(store, *(submission(name) for name in ("d", "b", "a", "c", "a", "d")))
        lease = await take_lease(store)
        await claim(store, lease, "b")

        assert await store.queued_tenants("", 2) == ["a", "c"]
        assert await store.queued_tenants("c", 2) == ["d"]
        assert await store.queued_tenants("a", ALL) == ["c", "d"]
        assert await store.queued_tenants("d", ALL) == []


class EndContract:
    async def test_a_completed_run_costs_what_was_charged(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store), max_cost=3 * DOLLAR)
        await world.advance(2)
        result = b'{"answer":42,"\xc3\xa9":"\\u0000"}'

        answer = await end_one(store, claimed, Completed(result, Micros(DOLLAR)))

        assert answer == Settled(Status.COMPLETED, Micros(DOLLAR))
        run = await read(store, claimed.fence.run_id)
        assert (run.status, run.actual_cost, run.finished_at, run.failure) == (
            Status.COMPLETED,
            DOLLAR,
            world.now,
            None,
        )
        assert (run.result, run.result_sha256) == (result, sha256(result).digest())
        assert await budget_of(store) == (10 * DOLLAR, 9 * DOLLAR, 0, DOLLAR)
        assert (await store.list_transfers("acme", before=None, limit=1)) == [
            Entry(
                seq=3,
                kind="settle",
                amount=Micros(3 * DOLLAR),
                cost=Micros(DOLLAR),
                returned=Micros(2 * DOLLAR),
                run_id=run.run_id,
                reference=None,
                reason=None,
                created_at=world.now,
            )
        ]

    @pytest.mark.parametrize(
        ("outcome", "settled", "kind", "failure"),
        [
            (Completed(b"0", Micros(0)), Settled(Status.COMPLETED, Micros(0)), "settle", None),
            (
                Completed(b"0", Micros(DOLLAR)),
                Settled(Status.COMPLETED, Micros(DOLLAR)),
                "settle",
                None,
            ),
            (
                FailedByItself(REFUSED, Micros(0)),
                Settled(Status.FAILED, Micros(20_000)),
                "settle",
                REFUSED,
            ),
            (
                FailedByItself(REFUSED, Micros(20_001)),
                Settled(Status.FAILED, Micros(20_001)),
                "settle",
                REFUSED,
            ),
            (CanceledWhileRunning(Micros(0)), Settled(Status.CANCELED, Micros(0)), "void", None),
            (CanceledWhileRunning(Micros(1)), Settled(Status.CANCELED, Micros(1)), "settle", None),
        ],
    )
    async def test_the_outcome_says_who_pays(
        self, world: World, outcome: Outcome, settled: Settled, kind: str, failure: Failure | None
    ) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        claimed = await begin(store, await take_lease(store))

        answer = await end_one(store, claimed, outcome)

        assert answer == settled
        run = await read(store, claimed.fence.run_id)
        assert (run.status, run.actual_cost, run.failure) == (settled.status, settled.cost, failure)
        deposited = 10 * DOLLAR
        assert await budget_of(store) == (deposited, deposited - settled.cost, 0, settled.cost)
        (entry,) = await store.list_transfers("acme", before=None, limit=1)
        assert (entry.kind, entry.cost, entry.returned) == (
            kind,
            settled.cost,
            DOLLAR - settled.cost,
        )

    async def test_the_platforms_failures_are_tried_again_and_end_free(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        attempts, answers = [claimed.attempt], []
        for _ in range(2):
            answers.append(await end_one(store, claimed, FailedByPlatform("the disk broke")))
            assert (await read(store, claimed.fence.run_id)).status is Status.QUEUED
            (claimed,) = await claim(store, lease)
            attempts.append(claimed.attempt)
        answers.append(await end_one(store, claimed, FailedByPlatform("the disk broke")))

        assert attempts == [1, 2, 3]
        assert answers == [Requeued(), Requeued(), Settled(Status.FAILED, Micros(0))]
        run = await read(store, claimed.fence.run_id)
        assert run.failure == Failure(ErrorCode.INFRASTRUCTURE, "the disk broke")
        assert (run.attempt, run.actual_cost) == (3, 0)
        assert await budget_of(store) == (10 * DOLLAR, 10 * DOLLAR, 0, 0)

    async def test_a_canceled_run_is_not_tried_again(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await store.cancel_run("acme", claimed.fence.run_id)

        answer = await end_one(store, claimed, FailedByPlatform("the disk broke"))

        assert answer == Settled(Status.CANCELED, Micros(0))

    async def test_asked_again_under_its_ending_id_it_tells_that_it_committed(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        mine, others = end(claimed), end(claimed)
        first = await store.end_runs([mine], wait=True)
        before = await books_of(store)

        assert await store.end_runs([mine], wait=True) == first
        assert await store.end_runs([others], wait=True) == [LeaseLost()]
        assert await store.end_runs([others, mine], wait=False) == [LeaseLost(), *first]
        assert await books_of(store) == before

    async def test_the_reapers_ending_is_not_mine_though_lease_and_epoch_are(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await spend_attempts(store, lease, await begin(store, lease), 2)
        assert await store.take_back([seen(claimed)], Lapse.LOST) == 1

        assert await end_one(store, claimed) == LeaseLost()
        assert (await read(store, claimed.fence.run_id)).status is Status.FAILED

    async def test_another_fence_ends_nothing(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease, other = await take_lease(store), await take_lease(store, "node-2")
        first = await begin(store, lease)
        await store.hand_back_runs([first.fence])
        (claimed,) = await claim(store, lease)
        fence = claimed.fence
        before = await books_of(store)

        answers = await store.end_runs(
            [
                end(claimed, fence=first.fence),
                end(claimed, fence=evolve(fence, lease_epoch=3)),
                end(claimed, fence=evolve(fence, lease_id=other.lease_id)),
                end(claimed, fence=evolve(fence, run_id=run_id())),
            ],
            wait=True,
        )

        assert answers == [LeaseLost()] * 4
        assert await books_of(store) == before
        assert await end_one(store, claimed) == Settled(Status.COMPLETED, Micros(DOLLAR // 10))

    async def test_a_queued_run_is_ended_by_nobody(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await store.hand_back_runs([claimed.fence])

        assert await end_one(store, claimed) == LeaseLost()

    async def test_until_somebody_took_the_run_back_a_late_settle_is_right(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        await submit(store, submission(), submission())
        lapsed, reaped = await claim(store, lease)
        await world.advance(10 * LEASE_S)

        assert await end_one(store, lapsed) == Settled(Status.COMPLETED, Micros(DOLLAR // 10))
        assert await store.reap_lease() == lease
        assert await end_one(store, reaped) == Settled(Status.COMPLETED, Micros(DOLLAR // 10))

    async def test_after_the_run_was_taken_back_it_is_lost(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        await world.advance(LEASE_S)
        assert await store.take_back(await orphans(store), Lapse.LOST) == 1
        before = await books_of(store)

        assert await end_one(store, claimed) == LeaseLost()

        await claim(store, await take_lease(store))
        assert await end_one(store, claimed) == LeaseLost()
        assert [budget for budget, _, _ in await books_of(store)] == [before[0][0]]

    async def test_of_two_ends_in_a_batch_the_first_counts(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        first, second = (end(claimed, Completed(b"1", Micros(n))) for n in (1, 2))

        answers = await store.end_runs([first, second], wait=True)

        assert answers == [Settled(Status.COMPLETED, Micros(1)), LeaseLost()]

    async def test_one_end_twice_in_a_batch_has_committed_both_times(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        mine = end(claimed)

        answers = await store.end_runs([mine, mine], wait=True)

        assert answers == [Settled(Status.COMPLETED, Micros(DOLLAR // 10))] * 2

    async def test_answers_come_in_the_order_of_the_batch_and_neighbours_do_not_matter(
        self, world: World
    ) -> None:
        store = world.store
        for tenant_id in ("zeta", "acme"):
            await make_tenant(store, tenant_id)
            await submit(store, *(submission(tenant_id) for _ in range(3)))
        lease = await take_lease(store)
        z = await claim(store, lease, "zeta")
        a = await claim(store, lease, "acme")
        await store.hand_back_runs([a[1].fence])

        answers = await store.end_runs(
            [
                end(z[2], Completed(b"1", Micros(1))),
                end(a[1]),
                end(a[0], FailedByItself(REFUSED, Micros(2))),
                end(z[0], FailedByPlatform("the disk broke")),
                end(z[1], CanceledWhileRunning(Micros(3))),
                end(a[2], Completed(b"1", Micros(4))),
            ],
            wait=True,
        )

        assert answers == [
            Settled(Status.COMPLETED, Micros(1)),
            LeaseLost(),
            Settled(Status.FAILED, Micros(2)),
            Requeued(),
            Settled(Status.CANCELED, Micros(3)),
            Settled(Status.COMPLETED, Micros(4)),
        ]
        assert await budget_of(store, "zeta") == (10 * DOLLAR, 9 * DOLLAR - 4, DOLLAR, 4)
        assert await budget_of(store, "acme") == (10 * DOLLAR, 9 * DOLLAR - 6, DOLLAR, 6)

    async def test_a_charge_over_the_reserve_fails_the_batch_and_writes_nothing(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        await submit(store, submission(), submission())
        good, bad = await claim(store, lease)
        before = await books_of(store)

        with pytest.raises(AssertionError):
            await store.end_runs(
                [end(good), end(bad, Completed(b"1", Micros(DOLLAR + 1)))], wait=True
            )

        assert await books_of(store) == before

    async def test_the_fee_is_the_one_stored_with_the_run(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        claimed = await begin(store, await take_lease(store))
        await store.set_plan("acme", "unlimited", operator="ops")

        answer = await end_one(store, claimed, FailedByItself(REFUSED, Micros(0)))

        assert answer == Settled(Status.FAILED, Micros(20_000))

    async def test_an_empty_batch_is_answered(self, world: World) -> None:
        assert await world.store.end_runs([], wait=True) == []


class CancelContract:
    async def test_a_queued_run_ends_at_no_cost(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        one = await create(store)
        await world.advance(1)

        outcome = await store.cancel_run("acme", one.run_id)

        run = queued(
            one,
            world.now - timedelta(seconds=1),
            status=Status.CANCELED,
            finished_at=world.now,
            actual_cost=Micros(0),
            cancel_asked=True,
            minimum_fee=Micros(20_000),
            policy="5000/20000/100000",
        )
        assert outcome == Ended(run)
        assert await read(store, one.run_id) == run
        assert await budget_of(store) == (10 * DOLLAR, 10 * DOLLAR, 0, 0)
        (entry,) = await store.list_transfers("acme", before=None, limit=1)
        assert (entry.kind, entry.cost, entry.returned) == ("void", 0, DOLLAR)

    async def test_a_running_run_is_asked_and_its_own_outcome_stands(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))

        first = await store.cancel_run("acme", claimed.fence.run_id)
        again = await store.cancel_run("acme", claimed.fence.run_id)

        assert isinstance(first, CancelAsked)
        assert (first.run.status, first.run.cancel_asked) == (Status.PROCESSING, True)
        assert again == first
        assert await end_one(store, claimed) == Settled(Status.COMPLETED, Micros(DOLLAR // 10))
        assert (await read(store, claimed.fence.run_id)).cancel_asked

    async def test_what_has_ended_stays_as_it_ended(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await end_one(store, claimed)
        before = await books_of(store)

        outcome = await store.cancel_run("acme", claimed.fence.run_id)

        assert outcome == Ended(before[0][1][0])
        assert await books_of(store) == before

    async def test_canceled_twice_it_was_canceled_once(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        first = await store.cancel_run("acme", one.run_id)
        before = await books_of(store)

        assert await store.cancel_run("acme", one.run_id) == first
        assert await books_of(store) == before

    async def test_a_run_of_another_tenant_is_unknown_and_untouched(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "thief")
        running = await begin(store, await take_lease(store))
        waiting = await create(store)
        before = await books_of(store, "acme", "thief")

        for run in (waiting.run_id, running.fence.run_id):
            assert await store.cancel_run("thief", run) == RunUnknown()
        assert await store.cancel_run("acme", uuid4()) == RunUnknown()

        assert await books_of(store, "acme", "thief") == before

    async def test_a_run_that_waits_for_its_next_attempt_ends_at_no_cost(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        claimed = await begin(store, await take_lease(store))
        await end_one(store, claimed, FailedByPlatform("the disk broke"))

        outcome = await store.cancel_run("acme", claimed.fence.run_id)

        assert isinstance(outcome, Ended)
        assert (outcome.run.status, outcome.run.actual_cost) == (Status.CANCELED, 0)
        assert outcome.run.started_at == world.now

    @pytest.mark.parametrize("lapse", Lapse)
    async def test_a_canceled_run_that_is_taken_back_ends_instead_of_waiting(
        self, world: World, lapse: Lapse
    ) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        claimed = await begin(store, await take_lease(store))
        await store.cancel_run("acme", claimed.fence.run_id)

        assert await store.take_back([seen(claimed)], lapse) == 1

        run = await read(store, claimed.fence.run_id)
        assert (run.status, run.actual_cost, run.cancel_asked) == (Status.CANCELED, 0, True)


class LeaseContract:
    async def test_a_tenure_begins_and_is_seen(self, world: World) -> None:
        store = world.store
        lease = new_lease("node-1")

        answered = await store.take_lease(lease, lease_s=LEASE_S, hand_back=[])
        await store.take_lease(lease, lease_s=LEASE_S, hand_back=[])

        assert answered == world.now
        until = world.now + timedelta(seconds=LEASE_S)
        assert await store.list_nodes() == [Node("node-1", lease.lease_id, until)]

    async def test_a_renewal_moves_the_end_and_tells_every_attempt_of_the_lease(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease, other = await take_lease(store), await take_lease(store, "node-2")
        mine = await begin(store, lease)
        await begin(store, other)
        await world.advance(LEASE_S - 1)

        renewal = await store.renew_lease(lease, lease_s=LEASE_S)

        assert renewal == Renewal(
            held=True,
            now=world.now,
            fences=(mine.fence,),
            neighbours=(Neighbour("node-1", Offer()), Neighbour("node-2", Offer())),
        )
        await world.advance(LEASE_S - 0.001)
        assert [node.lease_id for node in await store.list_nodes()] == [lease.lease_id]

    async def test_a_lease_that_lapsed_is_never_renewed_again(self, world: World) -> None:
        store = world.store
        lease = await take_lease(store)
        await world.advance(LEASE_S)

        renewal = await store.renew_lease(lease, lease_s=LEASE_S)

        assert renewal == Renewal(held=False, now=world.now, fences=())
        assert await store.list_nodes() == []
        assert await store.reap_lease() == lease

    async def test_an_unknown_or_ended_lease_is_not_renewed(self, world: World) -> None:
        store = world.store
        ended = await take_lease(store)
        await store.end_lease(ended, hand_back=False)

        for lease in (ended, new_lease()):
            assert (await store.renew_lease(lease, lease_s=LEASE_S)).held is False
        assert await store.list_nodes() == []

    async def test_a_drain_hands_everything_back_and_spends_no_attempt(self, world: World) -> None:
        store = world.store
        await make_tenant(store, "a")
        await make_tenant(store, "b")
        await submit(store, submission("a"), submission("a"), submission("b"))
        lease, other = await take_lease(store), await take_lease(store, "node-2")
        mine = await claim(store, lease, "a")
        theirs = await claim(store, other, "b")
        await world.advance(1)

        await store.end_lease(lease, hand_back=True)

        again = await claim(store, other, "a")
        assert ids(again) == ids(mine)
        assert [(one.attempt, one.available_at) for one in again] == [(1, world.now)] * 2
        assert await store.orphaned_runs(ALL) == []
        assert (await read(store, theirs[0].fence.run_id, "b")).status is Status.PROCESSING

    async def test_a_tenure_that_fails_leaves_its_runs_to_the_reaper(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)

        await store.end_lease(lease, hand_back=False)

        assert await store.list_nodes() == []
        assert await store.orphaned_runs(ALL) == [seen(claimed)]
        assert await store.take_back([seen(claimed)], Lapse.LOST) == 1
        (again,) = await claim(store, await take_lease(store))
        assert again.attempt == 2

    @pytest.mark.parametrize("reaped", [False, True])
    async def test_what_an_outage_kept_from_ending_is_handed_back_with_the_next_lease(
        self, world: World, *, reaped: bool
    ) -> None:
        store = world.store
        await make_tenant(store)
        owed = await take_lease(store)
        claimed = await begin(store, owed)
        await world.advance(LEASE_S)
        if reaped:
            assert await store.reap_lease() == owed
        lease = new_lease()

        await store.take_lease(lease, lease_s=LEASE_S, hand_back=[owed])

        assert [node.lease_id for node in await store.list_nodes()] == [lease.lease_id]
        (again,) = await claim(store, lease)
        assert (again.fence.run_id, again.attempt) == (claimed.fence.run_id, 1)

    async def test_a_canceled_run_is_not_handed_back_but_ends(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        await store.cancel_run("acme", claimed.fence.run_id)

        await store.end_lease(lease, hand_back=True)
        left = await orphans(store)

        assert left == [seen(claimed)]
        assert await store.take_back(left, Lapse.LOST) == 1
        assert (await read(store, claimed.fence.run_id)).status is Status.CANCELED

    async def test_a_starting_node_ends_its_earlier_tenures_and_nobody_elses(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        old, older = await take_lease(store, "node-1"), await take_lease(store, "node-1")
        other = await take_lease(store, "node-2")
        claimed = await begin(store, old)
        now = await take_lease(store, "node-1")

        assert await store.end_earlier_leases(now) == 2
        assert await store.end_earlier_leases(now) == 0

        living = {node.lease_id for node in await store.list_nodes()}
        assert living == {other.lease_id, now.lease_id}
        assert older.lease_id not in living
        assert await store.orphaned_runs(ALL) == [seen(claimed)]

    async def test_a_question_that_came_late_ends_no_tenure_that_came_after(
        self, world: World
    ) -> None:
        store = world.store
        late = await take_lease(store, "node-1")
        after = await take_lease(store, "node-1")

        assert await store.end_earlier_leases(late) == 0
        await store.end_lease(late, hand_back=False)
        assert await store.end_earlier_leases(late) == 0

        assert [node.lease_id for node in await store.list_nodes()] == [after.lease_id]

    async def test_attempts_that_a_node_does_not_know_are_handed_back_by_fence(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        await submit(store, submission(), submission(), submission())
        ghost, known, stale = await claim(store, lease)
        wrong = [
            evolve(stale.fence, lease_epoch=2),
            evolve(stale.fence, lease_id=uuid4()),
            evolve(stale.fence, run_id=run_id()),
        ]

        assert await store.hand_back_runs([ghost.fence, *wrong]) == 1
        assert await store.hand_back_runs([ghost.fence]) == 0

        assert [(await read(store, one.fence.run_id)).status for one in (ghost, known, stale)] == [
            Status.QUEUED,
            Status.PROCESSING,
            Status.PROCESSING,
        ]
        (again,) = await claim(store, lease)
        assert (again.fence.lease_epoch, again.attempt) == (2, 1)

    async def test_an_unknown_attempt_whose_cancel_was_asked_ends_instead_of_waiting_again(
        self, world: World
    ) -> None:
        """It would be claimed anew, though its tenant was told that it ends."""
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await store.cancel_run("acme", claimed.fence.run_id)

        assert await store.hand_back_runs([claimed.fence]) == 1

        run = await read(store, claimed.fence.run_id)
        assert (run.status, run.actual_cost) == (Status.CANCELED, ZERO)
        assert await store.hand_back_runs([claimed.fence]) == 0
        assert (await store.audit()).ok

    async def test_only_lapsed_leases_are_reaped_one_at_a_time(self, world: World) -> None:
        store = world.store
        first = await take_lease(store, "node-1")
        await world.advance(1)
        second = await take_lease(store, "node-2")
        await world.advance(1)
        living = await take_lease(store, "node-3")

        await world.advance(LEASE_S - 2)
        assert [await store.reap_lease(), await store.reap_lease()] == [first, None]
        await world.advance(1)
        assert [await store.reap_lease(), await store.reap_lease()] == [second, None]

        assert [node.lease_id for node in await store.list_nodes()] == [living.lease_id]


class ReapContract:
    async def test_a_run_is_an_orphan_only_when_its_lease_has_no_row_at_all(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        await create(store)
        assert await store.orphaned_runs(ALL) == []

        await world.advance(LEASE_S)
        assert await store.orphaned_runs(ALL) == []
        await store.reap_lease()

        assert await store.orphaned_runs(ALL) == [seen(claimed)]

    async def test_a_lost_attempt_is_spent_and_the_last_one_ends_free(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        attempts = []
        for _ in range(3):
            attempts.append(claimed.attempt)
            assert await store.take_back([seen(claimed)], Lapse.LOST) == 1
            if claimed.attempt < 3:
                (claimed,) = await claim(store, lease)

        assert attempts == [1, 2, 3]
        run = await read(store, claimed.fence.run_id)
        assert (run.status, run.actual_cost, run.attempt) == (Status.FAILED, 0, 3)
        assert run.failure is not None
        assert run.failure.code is ErrorCode.LOST_LEASE
        assert await budget_of(store) == (10 * DOLLAR, 10 * DOLLAR, 0, 0)

    async def test_a_hand_back_is_free_however_often(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        for _ in range(5):
            assert await store.take_back([seen(claimed)], Lapse.HANDED_BACK) == 1
            (claimed,) = await claim(store, lease)

        assert (claimed.attempt, claimed.fence.lease_epoch) == (1, 6)

    async def test_a_run_taken_back_can_be_claimed_at_once(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        await world.advance(3)
        await store.take_back([seen(claimed)], Lapse.LOST)

        (again,) = await claim(store, lease)

        assert again.available_at == world.now

    async def test_what_is_not_as_it_was_seen_is_not_taken(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease, other = await take_lease(store), await take_lease(store, "node-2")
        moved = await begin(store, lease)
        await store.hand_back_runs([moved.fence])
        (healthy,) = await claim(store, other)
        ended = await begin(store, lease)
        await end_one(store, ended)
        back = await begin(store, lease)
        await store.hand_back_runs([back.fence])
        before = await books_of(store)

        taken = await store.take_back([seen(moved), seen(ended), seen(back)], Lapse.LOST)

        assert taken == 0
        assert await books_of(store) == before
        assert await end_one(store, healthy) == Settled(Status.COMPLETED, Micros(DOLLAR // 10))

    async def test_a_page_of_several_tenants_is_taken_whole(self, world: World) -> None:
        store = world.store
        lease = await take_lease(store)
        claimed = []
        for tenant_id in ("b", "a"):
            await make_tenant(store, tenant_id)
            await submit(store, *(submission(tenant_id) for _ in range(3)))
            claimed += await claim(store, lease, tenant_id)
        await store.cancel_run("a", claimed[4].fence.run_id)
        await store.cancel_run("a", claimed[5].fence.run_id)
        await store.end_lease(lease, hand_back=False)

        some = await store.orphaned_runs(4)
        taken = await store.take_back(some, Lapse.LOST)
        rest = await store.take_back(await store.orphaned_runs(ALL), Lapse.LOST)

        assert (len(some), taken, rest) == (4, 4, 2)
        assert await store.orphaned_runs(ALL) == []
        assert [(await budget_of(store, name))[2] for name in ("a", "b")] == [DOLLAR, 3 * DOLLAR]

    async def test_a_passed_deadline_is_the_reapers_only_after_the_grace(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        lease = await take_lease(store, lease_s=1_000)
        claimed = await begin(store, lease, timebox_s=7)
        await world.advance(7 + LEASE_S)
        assert await store.overdue_runs(ALL, grace_s=LEASE_S) == []

        await world.advance(0.001)
        overdue = await store.overdue_runs(ALL, grace_s=LEASE_S)

        assert overdue == [seen(claimed)]
        assert await store.take_back(overdue, Lapse.LOST) == 1
        run = await read(store, claimed.fence.run_id)
        assert (run.status, run.attempt, run.actual_cost) == (Status.QUEUED, 2, None)

    async def test_a_run_that_nobody_started_expires_at_no_cost(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        one = await create(store)
        await world.advance(1)
        await create(store)
        await world.advance(WEEK.total_seconds() - 1.001)
        assert await store.unstarted_runs(ALL) == []

        await world.advance(0.001)
        unstarted = await store.unstarted_runs(ALL)

        assert unstarted == [Seen(one.run_id, "acme", None, 0)]
        assert await store.expire_runs(unstarted) == 1
        assert await store.expire_runs(unstarted) == 0
        run = await read(store, one.run_id)
        assert (run.status, run.actual_cost, run.finished_at) == (Status.EXPIRED, 0, world.now)
        assert await budget_of(store) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)
        (entry,) = await store.list_transfers("acme", before=None, limit=1)
        assert (entry.kind, entry.returned) == ("void", DOLLAR)

    async def test_a_run_that_is_not_past_its_time_does_not_expire(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)

        assert await store.expire_runs([Seen(one.run_id, "acme", None, 0)]) == 0
        assert (await read(store, one.run_id)).status is Status.QUEUED

    async def test_a_run_claimed_after_the_scan_does_not_expire(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        await world.advance(WEEK.total_seconds() - 1)
        lease = await take_lease(store)
        await claim(store, lease)
        await world.advance(1)

        assert await store.expire_runs([Seen(one.run_id, "acme", None, 0)]) == 0
        assert (await read(store, one.run_id)).status is Status.PROCESSING

    async def test_a_run_that_was_started_once_never_expires(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        await submit(store, submission(), submission())
        waiting, working = await claim(store, lease)
        await store.hand_back_runs([waiting.fence])
        await world.advance(2 * WEEK.total_seconds())

        assert await store.unstarted_runs(ALL) == []
        asked = [Seen(waiting.fence.run_id, "acme", None, 1), seen(working)]
        assert await store.expire_runs(asked) == 0

        assert [(await read(store, one.fence.run_id)).status for one in (waiting, working)] == [
            Status.QUEUED,
            Status.PROCESSING,
        ]

    @pytest.mark.parametrize("scan", ["orphaned", "overdue", "unstarted"])
    async def test_scans_are_pages(self, world: World, scan: str) -> None:
        store = world.store
        await make_tenant(store)
        await submit(store, *(submission(max_cost=CENT) for _ in range(5)))
        if scan != "unstarted":
            lease = await take_lease(store, lease_s=1)
            await claim(store, lease)
        await world.advance(WEEK.total_seconds())
        await orphans(store)

        async def page(limit: int) -> Sequence[Seen]:
            if scan == "orphaned":
                return await store.orphaned_runs(limit)
            if scan == "overdue":
                return await store.overdue_runs(limit, grace_s=LEASE_S)
            return await store.unstarted_runs(limit)

        assert [len(await page(limit)) for limit in (1, 3, 5, 9)] == [1, 3, 5, 5]

    async def test_nothing_seen_is_nothing_done(self, world: World) -> None:
        assert await world.store.take_back([], Lapse.LOST) == 0
        assert await world.store.expire_runs([]) == 0


class QuarantineContract:
    async def test_a_run_set_aside_opens_one_finding_and_freezes_its_tenant(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        claimed = await begin(store, await take_lease(store))
        before = await books_of(store)

        assert await store.quarantine_run(seen(claimed), {"why": "refused"}) is True
        assert await store.quarantine_run(seen(claimed), {"why": "again"}) is False

        (finding,) = await store.list_findings()
        assert finding == Finding(
            finding.finding_id,
            invariant="write_refused",
            subject=str(claimed.fence.run_id),
            tenant_id="acme",
            evidence={"why": "refused"},
            opened_at=world.now,
        )
        assert await books_of(store) == before
        acme, other = await store.get_tenant("acme"), await store.get_tenant("other")
        assert acme is not None
        assert other is not None
        assert (acme.frozen, other.frozen) == (True, False)
        await create(store, "other")

    async def test_an_unknown_or_ended_run_is_not_set_aside(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await end_one(store, claimed)

        for one in (seen(claimed), Seen(uuid4(), "acme", None, 0)):
            assert await store.quarantine_run(one, {}) is False
        assert await store.list_findings() == []

    @pytest.mark.parametrize("text", ["\x00", "é\u2028", "'; drop table runs --", "{}", "\\u0000"])
    async def test_evidence_may_be_any_text(self, world: World, text: str) -> None:
        """What the database refused is quoted; it must not be refused a second time."""
        store = world.store
        await make_tenant(store)
        one = await create(store)

        assert (
            await store.quarantine_run(Seen(one.run_id, "acme", None, 0), {"detail": text}) is True
        )

        (finding,) = await store.list_findings()
        assert set(finding.evidence) == {"detail"}

    async def test_nobody_but_an_operator_touches_what_is_set_aside(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        running, waiting = await begin(store, lease, timebox_s=1), await create(store)
        asked = [seen(running), Seen(waiting.run_id, "acme", None, 0)]
        for one in asked:
            await store.quarantine_run(one, {})
        before = await books_of(store)

        assert await claim(store, lease) == []
        assert await store.claimed_under(lease) == []
        assert (await store.renew_lease(lease, lease_s=LEASE_S)).fences == ()
        assert await end_one(store, running) == Quarantined()
        assert await store.hand_back_runs([running.fence]) == 0
        await store.end_lease(lease, hand_back=True)
        await world.advance(2 * WEEK.total_seconds())
        assert await store.orphaned_runs(ALL) == []
        assert await store.overdue_runs(ALL, grace_s=1.0) == []
        assert await store.unstarted_runs(ALL) == []
        assert await store.take_back(asked[:1], Lapse.LOST) == 0
        assert await store.expire_runs(asked) == 0
        assert await books_of(store) == before

    async def test_a_cancel_of_what_is_set_aside_is_only_noted(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        await store.quarantine_run(Seen(one.run_id, "acme", None, 0), {})

        outcome = await store.cancel_run("acme", one.run_id)

        assert outcome == CancelAsked(queued(one, world.now, cancel_asked=True))
        assert await budget_of(store) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)

    async def test_a_plan_that_this_node_does_not_know_stops_its_tenants_alone(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        waiting, others = await create(store), await create(store, "other")
        await store.set_plan("acme", "gone", operator="ops")
        before = await books_of(store)

        refused, created = await submit(store, submission(), submission("other"))
        assert refused == PlanUnknown("gone")
        assert isinstance(created, Created)
        (claimed,) = await claim(store, await take_lease(store), "acme", "other", share=1)
        assert claimed.fence.run_id in (others.run_id, created.run_id)  # they came at one time

        assert await books_of(store) == before
        assert (await read(store, waiting.run_id)).status is Status.QUEUED

    async def test_what_is_set_aside_does_not_count_against_the_cap(self, world: World) -> None:
        store = world.store
        await make_tenant(store, plan="basic")
        await submit(store, *(submission(max_cost=CENT) for _ in range(5)))
        lease = await take_lease(store)
        first, _ = await claim(store, lease)

        await store.quarantine_run(seen(first), {})

        assert len(await claim(store, lease)) == 1


class LargeResultContract:
    """Results that lie in a blob store, and runs that were left while theirs was stored."""

    async def test_an_ending_may_point_to_its_result(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store), max_cost=DOLLAR)
        stored = StoredResult("a/b/1", b"\x07" * 32)

        assert await end_one(store, claimed, Completed(stored, Micros(5))) == Settled(
            Status.COMPLETED, Micros(5)
        )

        run = await read(store, claimed.fence.run_id)
        assert (run.result, run.result_key, run.result_sha256) == (None, "a/b/1", b"\x07" * 32)
        assert (await store.audit()).ok

    async def test_the_mark_is_fenced_and_may_be_asked_again(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))

        for wrong in (
            evolve(claimed.fence, lease_epoch=2),
            evolve(claimed.fence, lease_id=uuid4()),
            evolve(claimed.fence, run_id=run_id()),
        ):
            assert await store.mark_storing(wrong) is False
        assert await store.mark_storing(claimed.fence) is True
        assert await store.mark_storing(claimed.fence) is True
        assert await end_one(store, claimed) == Settled(Status.COMPLETED, Micros(DOLLAR // 10))
        assert await store.mark_storing(claimed.fence) is False

    async def test_what_is_set_aside_takes_no_mark(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await store.quarantine_run(seen(claimed), {})

        assert await store.mark_storing(claimed.fence) is False

    async def test_reaper_and_reconciler_have_runs_of_their_own(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        plain, large = [await begin(store, lease, timebox_s=1) for _ in range(2)]
        await store.mark_storing(large.fence)
        assert await left(store) == []

        await store.end_lease(lease, hand_back=False)
        await world.advance(100)

        assert await store.orphaned_runs(ALL) == [seen(plain)]
        assert await store.overdue_runs(ALL, grace_s=1) == [seen(plain)]
        assert await left(store) == [seen(large)]
        assert await store.take_back([seen(large)], Lapse.LOST) == 0
        assert await store.take_back([seen(plain)], Lapse.LOST, storing=True) == 0
        assert await store.take_back([seen(large)], Lapse.LOST, storing=True) == 1
        run = await read(store, large.fence.run_id)
        assert (run.status, run.attempt) == (Status.QUEUED, 2)
        again = {one.fence.run_id: one for one in await claim(store, await take_lease(store))}
        assert await left(store) == []
        assert await end_one(store, again[large.fence.run_id]) == Settled(
            Status.COMPLETED, Micros(DOLLAR // 10)
        )

    @pytest.mark.parametrize("owed", [False, True])
    async def test_a_hand_back_spends_no_attempt_of_a_run_that_was_storing_its_result(
        self, world: World, *, owed: bool
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        await store.mark_storing(claimed.fence)

        if owed:
            await store.take_lease(new_lease(), lease_s=LEASE_S, hand_back=[lease])
        else:
            assert await store.end_lease(lease, hand_back=True) == 0

        assert await left(store) == []
        assert await store.mark_storing(claimed.fence) is False  # whatever it still uploads
        (again,) = await claim(store, await take_lease(store))
        assert (again.fence.run_id, again.attempt) == (claimed.fence.run_id, 1)

    async def test_a_ghost_that_stores_its_result_is_left_to_the_reconciler(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        await store.mark_storing(claimed.fence)

        assert await store.hand_back_runs([claimed.fence]) == 0
        await store.end_lease(lease, hand_back=False)

        assert await left(store) == [seen(claimed)]

    async def test_what_stores_for_too_long_is_left_though_its_lease_lives(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store, lease_s=10_000), timebox_s=10)
        await store.mark_storing(claimed.fence)

        await world.advance(39)
        assert await left(store) == []
        await world.advance(2)
        assert await left(store) == [seen(claimed)]

    async def test_what_was_left_is_paged_by_run(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        many = sorted([await begin(store, lease) for _ in range(5)], key=lambda c: c.fence.run_id)
        for one in many:
            await store.mark_storing(one.fence)
        await store.end_lease(lease, hand_back=False)

        first = await store.storing_runs(after=None, limit=2, grace_s=30)
        rest = await store.storing_runs(after=first[-1].seen.run_id, limit=ALL, grace_s=30)

        assert [one.seen for one in [*first, *rest]] == [seen(one) for one in many]
        assert first[0].created_at == (await read(store, many[0].fence.run_id)).created_at
        assert first[0].max_cost == many[0].max_cost

    async def test_a_roll_forward_is_an_end_like_any_other(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        await store.mark_storing(claimed.fence)
        await store.cancel_run("acme", claimed.fence.run_id)
        await store.end_lease(lease, hand_back=False)

        stored = Completed(StoredResult("a/b/1", b"\x07" * 32), Micros(5))
        assert await end_one(store, claimed, stored) == Settled(Status.COMPLETED, Micros(5))
        assert await store.take_back([seen(claimed)], Lapse.LOST, storing=True) == 0

    async def test_objects_stay_while_an_ending_or_a_live_run_needs_them(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        ended, inline, live = [await begin(store, lease) for _ in range(3)]
        await end_one(store, ended, Completed(StoredResult("k", b"\x07" * 32), Micros(5)))
        await end_one(store, inline)
        kept = {Attempt(one.fence.run_id, 1) for one in (ended, live)}
        lost = {
            Attempt(inline.fence.run_id, 1),
            Attempt(ended.fence.run_id, 2),
            Attempt(live.fence.run_id, 2),
            Attempt(run_id(), 1),
        }

        assert await store.kept_objects([*kept, *lost]) == kept
        assert await store.kept_objects([]) == frozenset()

    async def test_a_sample_names_what_endings_point_to(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        assert await store.sample_results(10) == []
        ended, inline = [await begin(store, lease) for _ in range(2)]
        key = BlobKey.of("acme", ended.created_at, ended.fence)
        await end_one(store, ended, Completed(StoredResult(key.name, b"\x07" * 32), Micros(5)))
        await end_one(store, inline)

        (pointer,) = await store.sample_results(10)

        assert pointer == Pointer(key=key, name=key.name, sha256=b"\x07" * 32)
        assert await store.sample_results(0) == []

    async def test_a_sample_names_an_object_as_long_as_it_is_served(self, world: World) -> None:
        """What is served no more may have been swept: that it is gone is no finding."""
        store = world.store
        await make_tenant(store)
        ended = await begin(store, await take_lease(store))
        key = BlobKey.of("acme", ended.created_at, ended.fence)
        await end_one(store, ended, Completed(StoredResult(key.name, b"\x07" * 32), Micros(5)))

        await world.advance(LIMITS.terms.result_days * 86_400 - 1)
        last = await store.sample_results(10)
        await world.advance(1)

        assert [pointer.name for pointer in last] == [key.name]
        assert await store.sample_results(10) == []

    async def test_a_store_is_known_by_the_first_id_that_was_kept(self, world: World) -> None:
        store = world.store
        first, second = uuid4(), uuid4()

        assert await store.store_id("results") is None
        assert await store.keep_store_id("results", first) == first
        assert await store.keep_store_id("results", second) == first
        assert await store.store_id("results") == first

    async def test_a_finding_is_opened_once_and_freezes_nobody(self, world: World) -> None:
        store = world.store
        await make_tenant(store)

        asked = ("object_not_verified", "a run", "acme", {"why": "\x00"})
        assert await store.open_finding(*asked) is True
        assert await store.open_finding(*asked) is False

        (finding,) = await store.list_findings()
        assert (finding.invariant, finding.subject, finding.tenant_id) == asked[:3]
        tenant = await store.get_tenant("acme")
        assert tenant is not None
        assert not tenant.frozen


async def left(store: Store) -> list[Seen]:
    """Return what the reconciler sees."""
    return [one.seen for one in await store.storing_runs(after=None, limit=ALL, grace_s=30)]


class FollowContract:
    async def test_a_cancel_is_brought_to_the_node_that_executes(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await submit(store, submission(), submission(), submission())
        asked, other, elsewhere = await claim(store, await take_lease(store))
        for one in (asked, elsewhere):
            await store.cancel_run("acme", one.fence.run_id)

        changes = await store.follow([asked.fence.run_id, other.fence.run_id, run_id()], [], [])

        assert changes == Changes(canceled=(asked.fence.run_id,), runs=())

    async def test_watched_runs_are_brought_as_they_are(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "thief")
        working = await begin(store, await take_lease(store))
        waiting, done = await create(store), await create(store)
        await store.cancel_run("acme", done.run_id)

        changes = await store.follow(
            [],
            [
                Watch("acme", done.run_id),
                Watch("acme", waiting.run_id),
                Watch("acme", working.fence.run_id),
                Watch("acme", run_id()),
                Watch("thief", waiting.run_id),
            ],
            [],
        )

        assert changes.canceled == ()
        by_id = {run.run_id: run for run in changes.runs}
        assert by_id == {
            one: await read(store, one)
            for one in (waiting.run_id, working.fence.run_id, done.run_id)
        }

    async def test_progress_is_the_latest_of_the_attempt_that_holds_the_run(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        claimed = await begin(store, lease)
        fence = claimed.fence

        def event(n: int, fraction: float, fence: Fence = fence) -> RunEvent:
            return RunEvent(
                fence=fence,
                tenant_id="acme",
                n=n,
                kind="progress",
                fraction=fraction,
                note=f"step {n}",
            )

        charge = RunEvent(fence=fence, tenant_id="acme", n=3, kind="charge", amount=Micros(7))
        await store.follow([], [], [event(2, 0.5), event(1, 0.25), charge])
        await store.follow(
            [],
            [],
            [
                event(2, 0.9),  # the number was used: nothing doubles, nothing changes
                event(9, 0.9, evolve(fence, lease_epoch=2)),
                event(9, 0.9, evolve(fence, lease_id=uuid4())),
                event(9, 0.9, evolve(fence, run_id=run_id())),
            ],
        )

        assert (await read(store, fence.run_id)).progress == Progress(0.5, "step 2")
        assert await budget_of(store) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)
        await store.hand_back_runs([fence])
        await store.follow([], [], [event(10, 1.0)])
        (again,) = await claim(store, lease)
        assert (await read(store, fence.run_id)).progress is None
        await store.follow([], [], [event(1, 0.1, again.fence)])
        assert (await read(store, fence.run_id)).progress == Progress(0.1, "step 1")


class ReadContract:
    async def test_a_run_is_its_tenants_alone(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "thief")
        one = await create(store, key="order-1")

        assert await store.get_run("thief", one.run_id) is None
        assert await store.get_run("acme", run_id()) is None
        by_key = RunFilter(idempotency_key="order-1")
        for matching in (EVERYTHING, by_key):
            listed = await store.list_runs("thief", before=None, limit=ALL, matching=matching)
            assert listed == RunPage((), None)

    async def test_runs_are_listed_newest_first_and_page_by_the_last_id(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        made = [await create(store, max_cost=CENT) for _ in range(5)]
        await create(store, "other")

        first = await store.list_runs("acme", before=None, limit=2)
        second = await store.list_runs("acme", before=first.next_before, limit=2)
        third = await store.list_runs("acme", before=second.next_before, limit=2)

        listed = [run.run_id for page in (first, second, third) for run in page.runs]
        assert listed == [one.run_id for one in reversed(made)]
        assert third.next_before is None

    @pytest.mark.parametrize(
        ("matching", "places"),
        [
            (EVERYTHING, [3, 2, 1, 0]),
            (RunFilter(status=Status.QUEUED), [3, 2]),
            (RunFilter(status=Status.CANCELED), [1, 0]),
            (RunFilter(status=Status.COMPLETED), []),
            (RunFilter(pack_type="decision"), [3, 1]),
            (RunFilter(pack_type="decision", status=Status.QUEUED), [3]),
            (RunFilter(idempotency_key="order-2"), [2]),
            (RunFilter(idempotency_key="order-2", status=Status.CANCELED), []),
        ],
    )
    async def test_a_list_holds_what_matches_and_nothing_else(
        self, world: World, matching: RunFilter, places: list[int]
    ) -> None:
        store = world.store
        await make_tenant(store)
        made = [
            await create(store, key=f"order-{n}", pack_type=("echo", "decision")[n % 2])
            for n in range(4)
        ]
        for one in made[:2]:
            await store.cancel_run("acme", one.run_id)

        page = await store.list_runs("acme", before=None, limit=ALL, matching=matching)

        assert [run.run_id for run in page.runs] == [made[n].run_id for n in places]
        assert page.next_before is None

    async def test_runs_are_listed_by_when_they_were_created(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        made = []
        for _ in range(3):
            of = UUID(f"{int(world.now.timestamp() * 1000):012x}{7 << 76:020x}")
            made.append(await read(store, (await create(store, of=of)).run_id))
            await world.advance(10)
        middle = made[1].created_at

        for matching, places in (
            (RunFilter(created_after=middle), [2, 1]),
            (RunFilter(created_after=datetime(1970, 1, 1, tzinfo=UTC)), [2, 1, 0]),
            (RunFilter(created_after=FIRST, created_before=LAST), [2, 1, 0]),
            (RunFilter(created_before=middle), [0]),
            (RunFilter(created_after=middle, created_before=middle), []),
        ):
            page = await store.list_runs("acme", before=None, limit=ALL, matching=matching)
            assert [run.run_id for run in page.runs] == [made[n].run_id for n in places]

    async def test_a_run_is_found_by_its_key(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store, key="order-1")
        await create(store, key="order-10")

        async def found(key: str, **values: Any) -> list[Run]:
            asked: dict[str, Any] = {"before": None, "limit": ALL, **values}
            matching = RunFilter(idempotency_key=key)
            return [*(await store.list_runs("acme", matching=matching, **asked)).runs]

        assert await found("order-1") == [await read(store, one.run_id)]
        assert await found("order-1", before=one.run_id) == []
        assert await found("order-2") == []

    async def test_whose_run_it_is_is_known_while_it_lives_and_after(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        waiting, ended = await create(store), await settle(store, "other")

        assert await store.tenant_of_run(waiting.run_id) == "acme"
        assert await store.tenant_of_run(ended) == "other"
        assert await store.tenant_of_run(run_id()) is None

    async def test_a_run_is_sighted_in_whatever_state_and_waits_while_it_could_be_claimed(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        waiting, ended = await create(store), await settle(store, "other")
        an_hour_on = (await read(store, waiting.run_id)).created_at + timedelta(hours=1)
        later = evolve(submission("acme"), run_at=an_hour_on)
        await submit(store, later)

        found = await store.sight_runs([ended, run_id(), later.run_id, waiting.run_id])

        assert {(one.run_id, one.tenant_id, one.waits) for one in found} == {
            (waiting.run_id, "acme", True),
            (later.run_id, "acme", False),
            (ended, "other", False),
        }
        assert await store.sight_runs([]) == []

    async def test_several_runs_are_read_at_once_and_only_the_tenants_own(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        mine = [await create(store) for _ in range(2)]
        theirs = await create(store, "other")

        found = await store.get_runs(
            "acme", [mine[1].run_id, theirs.run_id, mine[0].run_id, run_id()]
        )

        by_id = {run.run_id: run for run in found}
        assert by_id == {one.run_id: await read(store, one.run_id) for one in mine}
        assert len(found) == 2
        assert await store.get_runs("acme", []) == []

    async def test_the_ledger_is_listed_newest_first_and_pages_by_place(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store), max_cost=2 * DOLLAR)
        await store.post_transfer(posting(DOLLAR, "out", kind=Kind.WITHDRAW))
        await end_one(store, claimed)
        one = claimed.fence.run_id

        async def page(before: int | None, limit: int) -> list[Entry]:
            return await store.list_transfers("acme", before=before, limit=limit)

        def entry(seq: int, kind: str, amount: int, **values: Any) -> Entry:
            empty = dict.fromkeys(("cost", "returned", "run_id", "reference", "reason"))
            made = {"seq": seq, "kind": kind, "amount": Micros(amount), "created_at": world.now}
            return Entry(**{**empty, **made, **values})

        everything = [
            entry(
                4, "settle", 2 * DOLLAR, cost=DOLLAR // 10, returned=19 * DOLLAR // 10, run_id=one
            ),
            entry(3, "withdraw", DOLLAR, reference="out"),
            entry(2, "reserve", 2 * DOLLAR, run_id=one),
            entry(1, "deposit", 10 * DOLLAR, reference="first"),
        ]
        assert await page(None, ALL) == everything
        assert await page(None, 1) == everything[:1]
        assert await page(4, 2) == everything[1:3]
        assert await page(2, 2) == everything[3:]
        assert await page(1, 2) == []

    async def test_a_place_beyond_the_end_is_before_nothing(self, world: World) -> None:
        store = world.store
        await make_tenant(store)

        entries = await store.list_transfers("acme", before=10**12, limit=5)

        assert [one.seq for one in entries] == [1]

    async def test_the_database_answers(self, world: World) -> None:
        await world.store.ping()


class TenantContract:
    async def test_a_tenant_is_made_with_its_key_and_its_money(self, world: World) -> None:
        store = world.store

        made = await store.create_tenant(new_tenant("acme", plan="fee", deposit=7))

        tenant = Tenant(
            tenant_id="acme",
            plan="fee",
            suspended=False,
            frozen=False,
            created_at=world.now,
            budget=Budget("acme", Micros(7), Micros(7), Micros(0), Micros(0)),
        )
        assert made == tenant
        assert await store.get_tenant("acme") == tenant
        key = await store.find_key(key_of("acme"))
        assert key == Key(
            key_id=key_of("acme"),
            tenant_id="acme",
            secret_sha256=sha256(key_of("acme").encode()).digest(),
            scopes=("runs",),
            created_at=world.now,
            created_by="ops",
            plan="fee",
        )

    async def test_asked_again_with_the_same_key_it_is_the_same_tenant(self, world: World) -> None:
        store = world.store
        made = await make_tenant(store)

        assert await store.create_tenant(new_tenant("acme")) == made

        assert len(await store.list_transfers("acme", before=None, limit=ALL)) == 1

    async def test_a_name_that_is_taken_changes_nothing(self, world: World) -> None:
        store = world.store
        made = await make_tenant(store)
        thief = evolve(new_tenant("acme", plan="fee"), key=new_key("another", "acme"))

        assert await store.create_tenant(thief) == TenantExists()

        assert await store.get_tenant("acme") == made
        assert await store.find_key("another") is None

    async def test_a_tenant_may_begin_with_nothing(self, world: World) -> None:
        store = world.store

        await make_tenant(store, deposit=0)

        assert await budget_of(store) == (0, 0, 0, 0)
        assert await store.list_transfers("acme", before=None, limit=ALL) == []

    async def test_tenants_are_listed_by_name_and_page(self, world: World) -> None:
        store = world.store
        made = {name: await make_tenant(store, name) for name in ("c", "a", "b")}

        assert await store.list_tenants(after="", limit=2) == [made["a"], made["b"]]
        assert await store.list_tenants(after="b", limit=2) == [made["c"]]

    async def test_a_tenant_is_put_on_a_plan_and_suspended_and_resumed(self, world: World) -> None:
        store = world.store
        made = await make_tenant(store)

        assert await store.set_plan("acme", "fee", operator="ops") == evolve(made, plan="fee")
        suspended = await store.set_suspended("acme", suspended=True, operator="ops")
        again = await store.set_suspended("acme", suspended=True, operator="ops")
        resumed = await store.set_suspended("acme", suspended=False, operator="ops")

        assert suspended == again == evolve(made, plan="fee", suspended=True)
        assert resumed == evolve(made, plan="fee")
        key = await store.find_key(key_of("acme"))
        assert key is not None
        assert (key.plan, key.suspended) == ("fee", False)

    async def test_who_is_not_there_is_none(self, world: World) -> None:
        store = world.store

        assert await store.get_tenant("nobody") is None
        assert await store.set_plan("nobody", "fee", operator="ops") is None
        assert await store.set_suspended("nobody", suspended=True, operator="ops") is None
        assert await store.create_key(new_key("lost", "nobody"), operator="ops") is None
        assert await store.find_key("lost") is None
        assert await store.list_keys("nobody", before=None, limit=ALL, ended=True) == []


class TransferContract:
    async def test_a_deposit_is_there_to_be_spent(self, world: World) -> None:
        store = world.store
        await make_tenant(store, deposit=1)

        outcome = await store.post_transfer(posting(5, "gift"))

        assert outcome == Posted(Budget("acme", Micros(6), Micros(6), Micros(0), Micros(0)))
        assert await store.get_budget("acme") == outcome.budget

    async def test_a_withdrawal_takes_no_more_than_is_available(self, world: World) -> None:
        store = world.store
        await make_tenant(store, deposit=3 * DOLLAR)
        await create(store, max_cost=DOLLAR)
        before = await books_of(store)

        outcome = await store.post_transfer(posting(2 * DOLLAR + 1, "out", kind=Kind.WITHDRAW))

        assert outcome == Overdrawn(Micros(2 * DOLLAR))
        assert await books_of(store) == before
        outcome = await store.post_transfer(posting(2 * DOLLAR, "out", kind=Kind.WITHDRAW))
        assert outcome == Posted(
            Budget("acme", Micros(DOLLAR), Micros(0), Micros(DOLLAR), Micros(0))
        )

    @pytest.mark.parametrize("kind", Kind)
    async def test_a_reference_posts_once_and_only_as_it_was(
        self, world: World, kind: Kind
    ) -> None:
        store = world.store
        await make_tenant(store)
        runs = [await settle(store, cost=5), await settle(store, cost=5)]
        one = posting(5, "one", kind=kind, run_id=runs[0])
        first = await store.post_transfer(one)
        before = await books_of(store)

        assert await store.post_transfer(one) == first
        others = [posting(5, "one", kind=other, run_id=runs[0]) for other in Kind if other != kind]
        more = evolve(one, amount=Micros(6))
        less = [evolve(one, amount=Micros(-5))] if kind is Kind.ADJUST else []
        elsewhere = [evolve(one, run_id=runs[1])] if kind is Kind.REFUND else []
        for wrong in (*others, more, *less, *elsewhere):
            assert await store.post_transfer(wrong) == ReferenceReused()
        assert await books_of(store) == before

    async def test_a_withdrawal_asked_again_stands_though_nothing_is_left(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, deposit=5)
        first = await store.post_transfer(posting(5, "out", kind=Kind.WITHDRAW))

        assert await store.post_transfer(posting(5, "out", kind=Kind.WITHDRAW)) == first

    async def test_an_adjust_moves_what_is_deposited_and_available_either_way(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, deposit=5)

        more = await store.post_transfer(posting(3, "more", kind=Kind.ADJUST))
        less = await store.post_transfer(posting(-8, "less", kind=Kind.ADJUST))

        assert more == Posted(Budget("acme", Micros(8), Micros(8), Micros(0), Micros(0)))
        assert less == Posted(Budget("acme", Micros(0), Micros(0), Micros(0), Micros(0)))

    async def test_an_adjust_takes_no_more_than_is_available(self, world: World) -> None:
        store = world.store
        await make_tenant(store, deposit=3 * DOLLAR)
        await create(store, max_cost=DOLLAR)
        before = await books_of(store)

        outcome = await store.post_transfer(posting(-2 * DOLLAR - 1, "less", kind=Kind.ADJUST))

        assert outcome == Overdrawn(Micros(2 * DOLLAR))
        assert await books_of(store) == before

    async def test_a_refund_gives_back_what_a_run_cost_and_leaves_the_run_alone(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        run_id = await settle(store, cost=DOLLAR)
        before = await read(store, run_id)

        outcome = await store.post_transfer(
            posting(DOLLAR // 4, "back", kind=Kind.REFUND, run_id=run_id)
        )

        left = 3 * DOLLAR // 4
        budget = Budget(
            "acme", Micros(10 * DOLLAR), Micros(10 * DOLLAR - left), Micros(0), Micros(left)
        )
        assert outcome == Posted(budget)
        assert await store.get_budget("acme") == budget
        assert await read(store, run_id) == before
        (entry,) = await store.list_transfers("acme", before=None, limit=1)
        assert entry == Entry(
            seq=4,
            kind="refund",
            amount=Micros(DOLLAR // 4),
            cost=None,
            returned=None,
            run_id=run_id,
            reference="back",
            reason="a test",
            created_at=world.now,
        )

    async def test_refunds_of_a_run_come_to_no_more_than_it_cost(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        run_id = await settle(store, cost=10)
        await settle(store, cost=10)  # there is more to spend, but not of this run

        async def refund(amount: int, reference: str) -> object:
            one = posting(amount, reference, kind=Kind.REFUND, run_id=run_id)
            return await store.post_transfer(one)

        assert await refund(11, "a") == RefundTooHigh(Micros(10), Micros(0))
        assert isinstance(await refund(6, "b"), Posted)
        before = await books_of(store)
        assert await refund(5, "c") == RefundTooHigh(Micros(10), Micros(6))
        assert await books_of(store) == before
        last = await refund(4, "d")
        assert isinstance(last, Posted)
        assert await refund(1, "e") == RefundTooHigh(Micros(10), Micros(10))
        assert await refund(4, "d") == last  # asked again it stands, though nothing is left

    @pytest.mark.parametrize(
        ("outcome", "cost"),
        [
            (FailedByItself(REFUSED, Micros(0)), 20_000),  # the minimum fee
            (CanceledWhileRunning(Micros(7)), 7),
            (FailedByPlatform("lost"), None),  # waits again
            (Completed(b"{}", Micros(0)), 0),
        ],
    )
    async def test_what_may_be_refunded_is_what_the_end_cost(
        self, world: World, outcome: Outcome, cost: int | None
    ) -> None:
        store = world.store
        await make_tenant(store, plan="fee")
        claimed = await begin(store, await take_lease(store))
        one = posting((cost or 0) + 1, "back", kind=Kind.REFUND, run_id=claimed.fence.run_id)
        await end_one(store, claimed, outcome)

        answer = await store.post_transfer(one)

        refused = NotEnded() if cost is None else RefundTooHigh(Micros(cost), Micros(0))
        assert answer == refused
        if cost:
            assert isinstance(await store.post_transfer(evolve(one, amount=Micros(cost))), Posted)
            assert (await budget_of(store))[3] == 0

    async def test_a_run_that_waits_or_works_has_cost_nothing_yet(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        working, waiting = await begin(store, lease), await create(store)
        before = await books_of(store)

        for one in (working.fence.run_id, waiting.run_id):
            refund = posting(1, "back", kind=Kind.REFUND, run_id=one)
            assert await store.post_transfer(refund) == NotEnded()
        assert await books_of(store) == before

    async def test_a_canceled_run_that_never_ran_has_nothing_to_refund(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        await store.cancel_run("acme", one.run_id)

        refund = posting(1, "back", kind=Kind.REFUND, run_id=one.run_id)

        assert await store.post_transfer(refund) == RefundTooHigh(Micros(0), Micros(0))

    async def test_a_run_of_another_tenant_is_no_run(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        await settle(store)
        theirs = await settle(store, "other")
        before = await books_of(store, "acme", "other")

        for one in (theirs, run_id()):
            refund = posting(1, "back", kind=Kind.REFUND, run_id=one)
            assert await store.post_transfer(refund) == NoSuchRun()
        assert await books_of(store, "acme", "other") == before

    async def test_a_reference_is_the_tenants_own(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")

        for tenant_id in ("acme", "other"):
            outcome = await store.post_transfer(posting(5, "one", tenant_id=tenant_id))
            assert isinstance(outcome, Posted)

    async def test_who_is_not_there_gets_nothing(self, world: World) -> None:
        outcome = await world.store.post_transfer(posting(5, "one", tenant_id="nobody"))

        assert outcome == TenantUnknown()

    async def test_who_and_why_stand_in_the_ledger(self, world: World) -> None:
        store = world.store
        await make_tenant(store)

        await store.post_transfer(evolve(posting(5, "one"), reason="goodwill"))

        (entry,) = await store.list_transfers("acme", before=None, limit=1)
        assert (entry.kind, entry.reference, entry.reason) == ("deposit", "one", "goodwill")
