"""The contract of what is read of ended runs: receipts, usage, results while they are served."""

from __future__ import annotations

from datetime import date, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from dpp.blobs import BlobKey
from dpp.ledger import Kind, Posted
from dpp.listings import RunFilter
from dpp.money import ZERO, Micros
from dpp.receipts import Receipt, Unresolved
from dpp.runs import ErrorCode, Failure, Run, Status, StoredResult
from dpp.settlement import CanceledWhileRunning, Completed, FailedByItself, FailedByPlatform
from dpp.usage import DAYS_MAX, Usage, UsageDay
from dpp.watches import Watch
from tests.conftest import LIMITS
from tests.store.examples import DOLLAR, posting, run_id
from tests.store.steps import begin, claim, create, end_one, make_tenant, read, settle, take_lease

if TYPE_CHECKING:
    from uuid import UUID

    from dpp.claims import Claimed
    from dpp.leases import NodeLease
    from dpp.ledger import Entry
    from dpp.ports import Store
    from dpp.settlement import Outcome
    from tests.store.worlds import World

CENT = DOLLAR // 100
DAY_S = 86_400
DAY = timedelta(days=1)
FAULT = FailedByPlatform("away")
REFUSED = Failure(ErrorCode.PACK_REFUSED, "no such option")


async def lines_of(store: Store, of: object) -> list[Entry]:
    """Return the run's two lines of the ledger, the reserve first."""
    entries = await store.list_transfers("acme", before=None, limit=1000)
    return sorted((one for one in entries if one.run_id == of), key=lambda one: one.seq)


class ReceiptContract:
    @pytest.mark.parametrize(
        ("outcome", "status", "cost"),
        [
            (Completed(b'"done"', Micros(30 * CENT)), Status.COMPLETED, 30 * CENT),
            (Completed(b'"done"', ZERO), Status.COMPLETED, 0),
            (FailedByItself(REFUSED, Micros(7 * CENT)), Status.FAILED, 7 * CENT),
            (CanceledWhileRunning(Micros(3 * CENT)), Status.CANCELED, 3 * CENT),
        ],
    )
    async def test_receipt_is_derived_from_the_two_lines_of_the_run(
        self, world: World, outcome: Outcome, status: Status, cost: int
    ) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        lease = await take_lease(store)
        await world.advance(5)
        claimed = await begin_this(store, lease)
        if isinstance(outcome, CanceledWhileRunning):
            await store.cancel_run("acme", one.run_id)
        await world.advance(60)
        await end_one(store, claimed, outcome)

        receipt = await store.get_receipt("acme", one.run_id)

        reserve, resolution = await lines_of(store, one.run_id)
        done = outcome.result if isinstance(outcome, Completed) else None
        assert receipt == Receipt(
            run_id=one.run_id,
            tenant_id="acme",
            pack_type="echo",
            pack_version="1",
            status=status,
            attempt=1,
            inputs_sha256=sha256(one.inputs).digest(),
            result_sha256=sha256(done).digest() if isinstance(done, bytes) else None,
            reserved=reserve.amount,
            cost=Micros(cost),
            returned=Micros(DOLLAR - cost),
            policy="0/0/0",
            reserve_seq=reserve.seq,
            resolution_seq=resolution.seq,
            created_at=reserve.created_at,
            settled_at=resolution.created_at,
        )
        assert (resolution.cost, resolution.returned) == (receipt.cost, receipt.returned)

    async def test_voids_have_receipts_and_attempts_are_counted(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        lost = await begin(store, lease)
        for _ in range(LIMITS.attempts_max - 1):
            await end_one(store, lost, FAULT)
            lost = await begin_this(store, lease)
        await end_one(store, lost, FAULT)
        canceled = await create(store)
        await store.cancel_run("acme", canceled.run_id)

        receipts = [
            await store.get_receipt("acme", one) for one in (lost.fence.run_id, canceled.run_id)
        ]

        assert all(isinstance(one, Receipt) for one in receipts)
        told = [
            (one.status, one.attempt, one.cost, one.returned, one.result_sha256)
            for one in receipts
            if isinstance(one, Receipt)
        ]
        run = await read(store, lost.fence.run_id)
        assert told == [
            (Status.FAILED, run.attempt, 0, DOLLAR, None),
            (Status.CANCELED, 1, 0, DOLLAR, None),
        ]

    async def test_receipt_stays_as_it_is(self, world: World) -> None:
        """A refund is a line of the ledger, and changes no receipt."""
        store = world.store
        await make_tenant(store)
        ended = await settle(store)
        before = await store.get_receipt("acme", ended)
        refund = posting(CENT, "back", kind=Kind.REFUND, run_id=ended)

        assert isinstance(await store.post_transfer(refund), Posted)
        await world.advance(DAY_S)

        assert await store.get_receipt("acme", ended) == before

    async def test_run_that_has_not_ended_says_how_far_it_is(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        working = await begin(store, await take_lease(store))
        waiting = await create(store)

        assert await store.get_receipt("acme", waiting.run_id) == Unresolved(Status.QUEUED)
        assert await store.get_receipt("acme", working.fence.run_id) == Unresolved(
            Status.PROCESSING
        )

    async def test_receipt_is_its_tenants_alone(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "thief")
        ended = await settle(store)

        assert await store.get_receipt("thief", ended) is None
        assert await store.get_receipt("acme", run_id()) is None

    async def test_run_past_retention_is_known_by_its_tenant(self, world: World) -> None:
        store, gone = world.store, run_id()
        await make_tenant(store)
        await make_tenant(store, "thief")
        there = await create(store)
        await world.outlive("acme", gone)

        assert await store.is_pruned("acme", gone)
        assert not await store.is_pruned("thief", gone)
        assert not await store.is_pruned("acme", there.run_id)
        assert await store.get_receipt("acme", gone) is None


class UsageContract:
    async def test_day_counts_what_ended_on_it_in_utc(self, world: World) -> None:
        store, first = world.store, world.now.date()
        await make_tenant(store)
        await make_tenant(store, "other")
        await store.cancel_run("other", (await create(store, "other")).run_id)
        lease = await take_lease(store, lease_s=10 * DAY_S)
        done = await begin(store, lease)
        await end_one(store, done, Completed(b"{}", Micros(10 * CENT)))
        failed = await begin(store, lease)
        await end_one(store, failed, FailedByItself(REFUSED, Micros(7 * CENT)))
        await world.advance(12 * 3600 - 1)  # a second before midnight
        await store.cancel_run("acme", (await create(store)).run_id)
        late = await begin(store, lease)
        await world.advance(1)
        await end_one(store, late, Completed(b"1", Micros(CENT)))

        usage = await store.get_usage("acme", first=first, last=first + DAY)

        assert usage == Usage(
            first,
            first + DAY,
            (
                UsageDay(
                    day=first,
                    runs=3,
                    completed=1,
                    failed=1,
                    cost=Micros(17 * CENT),
                    reserved=Micros(3 * DOLLAR),
                ),
                UsageDay(
                    day=first + DAY,
                    runs=1,
                    completed=1,
                    cost=Micros(CENT),
                    reserved=Micros(DOLLAR),
                ),
            ),
        )

    async def test_period_has_both_of_its_ends(self, world: World) -> None:
        store, today = world.store, world.now.date()
        await make_tenant(store)
        for _ in range(4):
            await store.cancel_run("acme", (await create(store)).run_id)
            await world.advance(DAY_S)

        async def days(first: int, last: int) -> list[date]:
            usage = await store.get_usage(
                "acme", first=today + first * DAY, last=today + last * DAY
            )
            assert (usage.first, usage.last) == (today + first * DAY, today + last * DAY)
            return [one.day for one in usage.days]

        assert await days(0, 3) == [today + n * DAY for n in range(4)]
        assert await days(1, 2) == [today + DAY, today + 2 * DAY]
        assert await days(2, 2) == [today + 2 * DAY]
        assert await days(-5, -1) == await days(4, 9) == await days(2, 1) == []

    async def test_ends_that_nobody_names_are_today_and_thirty_days(self, world: World) -> None:
        store, today = world.store, world.now.date()
        await make_tenant(store)

        both = await store.get_usage("acme", first=None, last=None)
        to = await store.get_usage("acme", first=None, last=date(2024, 3, 1))
        since = await store.get_usage("acme", first=date(2026, 2, 1), last=None)
        begun = await store.get_usage("acme", first=None, last=date(1, 1, 3))

        assert both == Usage(today - 29 * DAY, today, ())
        assert to == Usage(date(2024, 2, 1), date(2024, 3, 1), ())
        assert since == Usage(date(2026, 2, 1), today, ())
        assert begun == Usage(date(1, 1, 1), date(1, 1, 3), ())  # the calendar begins there

    async def test_period_that_is_too_long_has_its_ends_and_no_days(self, world: World) -> None:
        store, today = world.store, world.now.date()
        await make_tenant(store)
        await store.cancel_run("acme", (await create(store)).run_id)
        year = today - (DAYS_MAX - 1) * DAY

        whole = await store.get_usage("acme", first=year, last=today)
        more = await store.get_usage("acme", first=year - DAY, last=today)

        assert [one.day for one in whole.days] == [today]
        assert (whole.span, more.span) == (DAYS_MAX, DAYS_MAX + 1)
        assert more == Usage(year - DAY, today, ())


class ServedContract:
    """A result is served as long as its run says, and then gone from every read."""

    @pytest.mark.parametrize("large", [False, True])
    async def test_result_is_there_until_it_expires(self, world: World, *, large: bool) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        name = BlobKey.of("acme", claimed.created_at, claimed.fence).name
        stored = StoredResult(name, sha256(b'"done"').digest())
        if large:
            assert await store.mark_storing(claimed.fence)
        await end_one(store, claimed, Completed(stored if large else b'"done"', Micros(CENT)))
        whole = LIMITS.terms.result_days * DAY_S

        before = await reads_of(store, claimed.fence.run_id)
        await world.advance(whole - 1)
        last = await reads_of(store, claimed.fence.run_id)
        await world.advance(1)
        after = await reads_of(store, claimed.fence.run_id)

        assert before == last
        shown = {(run.result, run.result_key) for run in before}
        assert shown == ({(None, name)} if large else {(b'"done"', None)})
        assert {(run.result, run.result_key) for run in after} == {(None, None)}
        assert {run.result_sha256 for run in after} == {sha256(b'"done"').digest()}
        assert {run.result_expires_at for run in after} == {world.now}


async def begin_this(store: Store, lease: NodeLease) -> Claimed:
    """Claim the one run that waits."""
    (claimed,) = await claim(store, lease, "acme")
    return claimed


async def reads_of(store: Store, of: UUID) -> list[Run]:
    """Return a run by every verb that reads one."""
    run = await read(store, of)
    by_key = RunFilter(idempotency_key=run.idempotency_key)
    pages = [
        await store.list_runs("acme", before=None, limit=10, matching=matching)
        for matching in (RunFilter(), by_key)
    ]
    changes = await store.follow([], [Watch("acme", of)], [])
    some = await store.get_runs("acme", [of])
    return [run, *some, *(one for page in pages for one in page.runs), *changes.runs]
