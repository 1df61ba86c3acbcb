"""Resolving on PostgreSQL: books that were broken by hand, and what comes at the same moment."""

# ruff: noqa: S608 - every statement here is made of constants of this file
from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trio
from attrs import evolve

from dpp.auditing import Mark, Parts
from dpp.findings import Resolved, ResolvedAlready
from dpp.money import Micros
from dpp.resolutions import (
    Accept,
    CostTooHigh,
    Refold,
    Remedy,
    RunEnded,
    Settle,
    Unfit,
    Void,
    shown,
)
from dpp.runs import ErrorCode, Status
from dpp.settlement import LeaseLost, Settled
from dpp.spending import Spending
from dpp.store import auditing, findings, resolutions
from dpp.store.transactions import NotCommitted
from tests.store.contract import seen
from tests.store.examples import DOLLAR, LEASE_S, STORE_PLANS, end, new_key
from tests.store.resolve_contract import HALF, is_frozen, resolving, set_aside
from tests.store.sessions import start
from tests.store.steps import (
    begin,
    books_of,
    budget_of,
    claim,
    create,
    end_one,
    make_tenant,
    read,
    settle,
    take_lease,
)
from tests.store.test_audit import BREAKS, break_it, make_busy
from tests.store.test_auditor import Looks
from tests.store.verbs import ending
from tests.store.wire import Cut
from tests.store.worlds import postgres_world

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from dpp.admission import Busy
    from dpp.findings import Finding, ResolveOutcome
    from dpp.store.connections import Connection
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions
    from tests.store.wire import Wire

SHORT = (
    "update dpp.budgets set available = available - 1, spent = spent + 1 where tenant_id = 'acme'"
)
LOCK_TENANT = (
    "select frozen_at is not null as frozen from tenants where tenant_id = $1 for no key update"
)
SETTLED = Settled(Status.COMPLETED, Micros(DOLLAR // 10))


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


def resolve(
    finding_id: UUID, remedy: Remedy, folded: Mark | None = None
) -> Callable[[Connection], Awaitable[ResolveOutcome | Busy]]:
    """Return the transaction as a function of a connection."""
    asked = resolving(finding_id, remedy)
    return partial(resolutions.resolve_finding, asked=asked, folded=folded or Mark(), wait=True)


async def found(store: PostgresStore, looks: Looks | None = None) -> list[Finding]:
    """Let an auditor look, and open what it finds."""
    looks = looks or Looks(store)
    return await looks.find(await looks.look())


async def open_now(store: PostgresStore) -> list[Finding]:
    """Return the findings that are open."""
    return list(await store.list_findings())


async def resolved(store: PostgresStore, finding: Finding, remedy: Remedy) -> Resolved:
    answer = await store.resolve_finding(resolving(finding.finding_id, remedy))
    assert isinstance(answer, Resolved), answer
    return answer


async def counters(admin: Session) -> dict[str, object]:
    """Read what a budget row has beside its parts, as evidence has it."""
    (row,) = await admin.fetch(
        "select seq, spend_day::text as spend_day, day_spend, month_spend"
        " from dpp.budgets where tenant_id = 'acme'"
    )
    return dict(row)


async def test_a_budget_is_written_anew_and_both_rows_are_kept(
    judged: PostgresStore, admin: Session
) -> None:
    await make_busy(judged)
    before = await judged.get_budget("acme"), await counters(admin)
    await admin.execute(SHORT)
    (finding,) = await found(judged)
    assert await is_frozen(judged)

    answer = await resolved(judged, finding, Refold())

    budget, counted = before
    parts = {name: getattr(budget, name) for name in ("deposited", "available", "held", "spent")}
    was = {**parts, "available": parts["available"] - 1, "spent": parts["spent"] + 1}
    assert answer.finding.resolution is not None
    assert answer.finding.resolution["new"] == parts | counted
    assert answer.finding.resolution["old"] == was | counted
    assert await judged.get_budget("acme") == budget
    assert not await is_frozen(judged)
    assert await found(judged) == []


async def test_a_budget_that_is_gone_is_written_anew(judged: PostgresStore, admin: Session) -> None:
    await make_busy(judged)
    before = await judged.get_budget("acme"), await counters(admin)
    await admin.execute("delete from dpp.budgets where tenant_id = 'acme'")
    (finding,) = await found(judged)

    answer = await resolved(judged, finding, Refold())

    assert answer.finding.resolution is not None
    assert answer.finding.resolution["old"] is None
    assert (await judged.get_budget("acme"), await counters(admin)) == before


COUNTERS = "update dpp.budgets set day_spend = day_spend - 1, month_spend = month_spend - 1"
OTHER_DAY = "update dpp.budgets set spend_day = spend_day - 400"
USED = "update dpp.allowances set used = used - 1 where allowance_id = 'capped'"


@pytest.mark.parametrize(
    ("does", "subjects"),
    [(COUNTERS, ["acme {day}", "acme {month}"]), (OTHER_DAY, ["acme"])],
)
async def test_counters_are_written_anew_and_one_refold_mends_them_all(
    judged: PostgresStore, admin: Session, does: str, subjects: list[str]
) -> None:
    await make_busy(judged)
    before = await counters(admin)
    day = str(before["spend_day"])
    await admin.execute(f"{does} where tenant_id = 'acme'")
    first, *others = await found(judged)

    answer = await resolved(judged, first, Refold())

    assert {(one.invariant, one.subject) for one in (first, *others)} == {
        ("12_spend_equals_facts", subject.format(day=day, month=day[:7])) for subject in subjects
    }
    assert await counters(admin) == before
    assert answer.frozen == bool(others)
    for one in others:
        assert not (await resolved(judged, one, Refold())).frozen
    assert await found(judged) == []


async def test_an_allowance_is_written_anew_and_both_rows_are_kept(
    judged: PostgresStore, admin: Session
) -> None:
    await make_busy(judged)
    used = await used_of(admin)
    await admin.execute(USED)
    (finding,) = await found(judged)
    assert finding.subject == "acme capped"

    answer = await resolved(judged, finding, Refold())

    assert answer.finding.resolution is not None
    told = {name: answer.finding.resolution[name] for name in ("allowance_id", "old", "new")}
    assert told == {"allowance_id": "capped", "old": {"used": used - 1}, "new": {"used": used}}
    assert await used_of(admin) == used
    assert not answer.frozen
    assert await found(judged) == []


async def used_of(admin: Session, allowance_id: str = "capped") -> int:
    """Read what an allowance has used."""
    asked = "select used from dpp.allowances where allowance_id = $1"
    return int(await admin.fetchval(asked, allowance_id))


async def test_an_allowance_that_was_overspent_is_refolded_once_enough_has_come_back(
    judged: PostgresStore, admin: Session
) -> None:
    """The schema takes no row over its limit; and what was spent was spent."""
    await make_tenant(judged)
    key = evolve(new_key("small", "acme"), spend_limit=Micros(2 * DOLLAR))
    await judged.create_key(key, operator="ops")
    lease = await take_lease(judged)
    await begin(judged, lease, key_id="small", max_cost=3 * HALF)
    await admin.execute(f"update dpp.allowances set used = used - {HALF}")
    second = await begin(judged, lease, key_id="small")
    (finding,) = await found(judged)

    refused = await judged.resolve_finding(resolving(finding.finding_id, Refold()))
    assert isinstance(refused, Unfit)
    assert await end_one(judged, second) == SETTLED
    await resolved(judged, finding, Refold())

    assert await used_of(admin, "small") == 3 * HALF + DOLLAR // 10
    assert not await is_frozen(judged)


@pytest.mark.parametrize("remedy", [Accept(), Refold()])
async def test_what_is_wrong_with_counters_is_told_once_however_the_books_move_on(
    store: PostgresStore, admin: Session, database: Database, remedy: Remedy
) -> None:
    """Of two who look one goes on from a mark; over midnight, and over the end of a month."""
    world = await postgres_world(store, admin, database)
    await make_busy(store)
    await admin.execute(f"{COUNTERS} where tenant_id = 'acme'; {USED}")
    looks = Looks(store)
    findings_ = await found(store, looks)
    assert len(findings_) == 3
    for one in findings_:
        await resolved(store, one, remedy)

    for seconds in (0, 60, 86_400, 31 * 86_400):
        await world.advance(seconds)
        lease = await take_lease(store)
        await create(store, key_id="capped", max_cost=DOLLAR // 4)
        for claimed in await claim(store, lease):
            await end_one(store, claimed)
        await settle(store)

        assert await looks.look() == []
        assert await Looks(store).look() == []
        assert (await store.audit()).ok
    await admin.execute(f"{COUNTERS} where tenant_id = 'acme'")
    assert len(await looks.look()) == 2


@pytest.mark.parametrize(("remedy", "cost"), [(Settle(HALF), HALF), (Void(), 0)])
@pytest.mark.parametrize("started", [False, True])
async def test_a_run_that_is_neither_live_nor_ended_is_ended(
    judged: PostgresStore, admin: Session, remedy: Remedy, cost: int, *, started: bool
) -> None:
    """It had told of its first attempt, which no later row may deny."""
    await make_tenant(judged)
    if started:
        claimed = await begin(judged, await take_lease(judged))
        run_id = claimed.fence.run_id
        await admin.execute(
            "insert into dpp.run_events (run_id, lease_epoch, n, tenant_id, kind, fraction,"
            f" created_at) values ('{run_id}', 1, 1, 'acme', 'progress', 0.5, now())"
        )
    else:
        run_id = (await create(judged)).run_id
    await admin.execute("delete from dpp.live_runs")
    (finding,) = await found(judged)
    assert (finding.invariant, finding.subject) == ("04_live_or_ended", str(run_id))

    answer = await resolved(judged, finding, remedy)

    run = await read(judged, run_id)
    assert (run.status, run.actual_cost) == (Status.FAILED, cost)
    assert run.failure is not None
    assert run.failure.code is ErrorCode.RESOLVED_BY_OPERATOR
    assert run.lease_epoch == int(started)
    assert await budget_of(judged) == (10 * DOLLAR, 10 * DOLLAR - cost, 0, cost)
    assert not answer.frozen
    (row,) = await admin.fetch("select ending_id from dpp.endings")
    assert row["ending_id"] == finding.finding_id
    assert await found(judged) == []


async def test_a_live_row_that_came_back_after_the_end_goes_when_it_is_accepted(
    judged: PostgresStore, admin: Session
) -> None:
    """It was claimed again, and what the database refused set it aside."""
    await make_tenant(judged)
    lease = await take_lease(judged)
    claimed = await begin(judged, lease)
    await admin.execute("create temp table kept as select * from dpp.live_runs")
    await end_one(judged, claimed)
    await admin.execute("insert into dpp.live_runs select * from kept")
    assert await judged.quarantine_run(seen(claimed), {"why": "refused"})
    before = await books_of(judged)
    by_name = {one.invariant[:2]: one for one in [*await found(judged), *await open_now(judged)]}
    assert set(by_name) == {"04", "wr"}

    for finding in by_name.values():
        for remedy in (Settle(HALF), Void()):
            refused = await judged.resolve_finding(resolving(finding.finding_id, remedy))
            assert refused == RunEnded(Status.COMPLETED, Micros(DOLLAR // 10))
    answer = await resolved(judged, by_name["wr"], Accept())

    assert answer.finding.resolution is not None
    assert answer.finding.resolution["live_row"] == "taken away"
    assert await admin.fetchval("select count(*) from dpp.live_runs") == 0
    assert await books_of(judged) == before
    assert not (await resolved(judged, by_name["04"], Accept())).frozen
    assert await found(judged) == []

    await admin.execute("insert into dpp.live_runs select * from kept")
    (again,) = await found(judged)
    assert again.invariant == "04_live_or_ended"
    await resolved(judged, again, Accept())


async def test_a_live_row_that_nobody_submitted_is_set_aside_and_goes_when_it_is_accepted(
    judged: PostgresStore, admin: Session
) -> None:
    """A claim stamps it and returns it not: handed back it would be stamped for ever."""
    await make_tenant(judged)
    lease = await take_lease(judged)
    known = await begin(judged, lease)
    before = await budget_of(judged)
    await admin.execute(
        "create temp table stray as select * from dpp.live_runs;"
        "update stray set run_id = gen_random_uuid(), lease_id = null, deadline = null,"
        " started_at = null, lease_epoch = 0;"
        "insert into dpp.live_runs select * from stray"
    )

    assert await claim(judged, lease) == []
    renewal = await judged.renew_lease(lease, lease_s=LEASE_S)
    (ghost,) = [fence for fence in renewal.fences if fence != known.fence]
    assert await judged.hand_back_runs([ghost, known.fence]) == 1  # the healthy one
    assert await judged.hand_back_runs([ghost]) == 0

    (again,) = await claim(judged, lease)
    assert (again.fence.run_id, again.attempt) == (known.fence.run_id, 1)
    renewal = await judged.renew_lease(lease, lease_s=LEASE_S)
    assert [*renewal.fences] == [again.fence]
    (aside,) = await open_now(judged)
    assert (aside.invariant, aside.subject) == ("write_refused", str(ghost.run_id))
    (astray,) = await found(judged)
    assert (astray.invariant, astray.subject) == ("04_live_or_ended", str(ghost.run_id))
    assert await budget_of(judged) == before
    for remedy in (Settle(HALF), Void()):
        assert isinstance(await judged.resolve_finding(resolving(aside.finding_id, remedy)), Unfit)
    assert (await resolved(judged, aside, Accept())).frozen  # by the other
    assert not (await resolved(judged, astray, Accept())).frozen
    assert await admin.fetchval("select count(*) from dpp.live_runs") == 1
    assert await found(judged) == []


@pytest.mark.parametrize(
    "wrong", ["run_id = gen_random_uuid()", "max_cost = max_cost - 1"], ids=["nobody's", "amount"]
)
async def test_a_live_row_that_is_not_of_its_reserve_moves_no_money_when_it_expires(
    judged: PostgresStore, admin: Session, wrong: str
) -> None:
    await make_tenant(judged)
    await create(judged)
    await create(judged)  # what it holds would cover the other's
    before = await budget_of(judged)
    await admin.execute("create temp table whole as select * from dpp.live_runs")
    await admin.execute(
        f"update dpp.live_runs set {wrong}, expires_at = dpp.now() - interval '1 s'"
        " where run_id = (select min(run_id::text)::uuid from dpp.live_runs)"
    )

    (stray,) = await judged.unstarted_runs(10)
    with pytest.raises(AssertionError):
        await judged.expire_runs([stray])

    assert await budget_of(judged) == before
    await admin.execute("delete from dpp.live_runs; insert into dpp.live_runs select * from whole")


@pytest.mark.parametrize("wrong", ["budget_day = budget_day - 1", "allowance_id = null"])
async def test_a_live_row_that_counts_elsewhere_is_put_right_and_ended(
    judged: PostgresStore, admin: Session, wrong: str
) -> None:
    await make_tenant(judged)
    limited = evolve(new_key("limited", "acme"), spend_limit=Micros(5 * DOLLAR))
    await judged.create_key(limited, operator="ops")
    await create(judged, key_id="limited")
    await admin.execute(f"update dpp.live_runs set {wrong}")
    (finding,) = await found(judged)
    assert finding.invariant == "06_rows_agree"

    await resolved(judged, finding, Void())

    assert await found(judged) == []


async def test_a_live_row_that_holds_another_amount_is_put_right_and_ended(
    judged: PostgresStore, admin: Session
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    await admin.execute("update dpp.live_runs set max_cost = max_cost * 2")
    assert await judged.quarantine_run(seen(claimed), {"why": "refused"})
    (aside,) = await open_now(judged)
    assert isinstance(
        await judged.resolve_finding(resolving(aside.finding_id, Settle(Micros(DOLLAR + 1)))),
        CostTooHigh,
    )

    await resolved(judged, aside, Settle(Micros(DOLLAR)))

    assert await budget_of(judged) == (10 * DOLLAR, 9 * DOLLAR, 0, DOLLAR)
    run = await read(judged, claimed.fence.run_id)
    assert (run.status, run.lease_epoch) == (Status.FAILED, claimed.fence.lease_epoch)
    assert await found(judged) == []


async def test_a_run_cannot_be_ended_on_a_budget_that_does_not_hold_it(
    judged: PostgresStore, admin: Session
) -> None:
    """First the budget, then the run; the last of both thaws the tenant."""
    await make_tenant(judged)
    await create(judged)
    await admin.execute("delete from dpp.live_runs; update dpp.budgets set held = 0, spent = held")
    by_name = {one.invariant[:2]: one for one in await found(judged)}
    assert set(by_name) == {"02", "04"}

    refused = await judged.resolve_finding(resolving(by_name["04"].finding_id, Void()))
    assert isinstance(refused, Unfit)
    assert (await resolved(judged, by_name["02"], Refold())).frozen
    assert not (await resolved(judged, by_name["04"], Void())).frozen
    assert not await is_frozen(judged)


async def test_a_ledger_with_a_gap_cannot_be_refolded_but_accepted(
    store: PostgresStore, admin: Session
) -> None:
    """What is accepted stays accepted while the books move on; what comes to it is told."""
    await make_busy(store)
    await break_it(admin, next(one for one in BREAKS if "that is empty" in one.name))
    looks = Looks(store)
    (finding,) = await found(store, looks)

    refused = await store.resolve_finding(resolving(finding.finding_id, Refold()))
    assert isinstance(refused, Unfit)
    await resolved(store, finding, Accept())

    assert await looks.look() == []
    assert (await store.audit()).ok
    (verdict,) = [one for one in (await store.audit()).verdicts if one.accepted]
    assert (verdict.name, verdict.accepted) == ("02_budgets_equal_ledger", 1)
    await create(store)
    assert await looks.look() == []
    assert await Looks(store).look() == []
    assert (await store.audit()).ok
    await admin.execute(SHORT)
    (again,) = await found(store, looks)
    assert again.invariant == finding.invariant
    assert not (await store.audit()).ok


@pytest.mark.parametrize(
    "name",
    [
        "a run that is both",
        "a result that is not the one stored",
        "a run that was counted twice",
        "a day that is gone",
        "a failure that cost less than the fee",
    ],
)
async def test_what_cannot_be_mended_is_accepted(
    store: PostgresStore, admin: Session, name: str
) -> None:
    await make_busy(store)
    await break_it(admin, next(one for one in BREAKS if one.name == name))

    for finding in await found(store):
        if finding.invariant.startswith(("02", "12", "13")):
            await resolved(store, finding, Refold())
        else:
            await resolved(store, finding, Accept())

    audit = await store.audit()
    assert [one.name for one in audit.verdicts if one.offenders] in ([], ["03_held_is_unresolved"])
    assert await found(store) == []
    assert not await is_frozen(store)


# an answer that is lost


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_resolution_whose_answer_is_lost_is_one_resolution(
    wired: PostgresStore, wire: Wire, cut: Cut
) -> None:
    claimed, finding = await set_aside(wired)
    wire.plan.append(cut)

    answer = await resolved(wired, finding, Settle(HALF))

    assert not answer.frozen
    assert (await read(wired, claimed.fence.run_id)).status is Status.FAILED
    assert await budget_of(wired) == (10 * DOLLAR, 10 * DOLLAR - HALF, 0, HALF)
    assert await wired.get_finding(finding.finding_id) == answer.finding


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_finding_whose_answer_is_lost_is_told_all_the_same(
    wired: PostgresStore, wire: Wire, admin: Session, cut: Cut
) -> None:
    """Else nobody would be called: the next look knows it already."""
    await make_tenant(wired)
    await admin.execute(SHORT)
    looks = Looks(wired)
    offences = await looks.look()
    wire.plan.append(cut)

    (finding,) = await looks.find(offences)

    assert await wired.list_findings() == [finding]
    assert await is_frozen(wired)
    await resolved(wired, finding, Refold())


# at the same moment


async def test_a_settle_that_came_first_is_the_end(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    await judged.open_finding("object_not_asked", str(claimed.fence.run_id), "acme", {})
    (finding,) = await judged.list_findings()
    first, second = await sessions.open(), await sessions.open()

    async with trio.open_nursery() as nursery:
        settling = await first.start_and_stop(nursery, ending(end(claimed)))
        waiting = start(nursery, partial(second.run, resolve(finding.finding_id, Void())))
        await sessions.until_blocked()
        await first.go_on()
        assert await settling.result() == [SETTLED]
        assert await waiting.result() == RunEnded(Status.COMPLETED, Micros(DOLLAR // 10))
    assert await judged.list_findings() == [finding]


async def test_a_resolution_that_came_first_is_the_end(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    await judged.open_finding("object_not_asked", str(claimed.fence.run_id), "acme", {})
    (finding,) = await judged.list_findings()
    first, second = await sessions.open(), await sessions.open()

    async with trio.open_nursery() as nursery:
        resolver = resolve(finding.finding_id, Settle(HALF))
        resolving_ = await first.start_and_stop(nursery, resolver)
        waiting = start(nursery, partial(second.run, ending(end(claimed))))
        await sessions.until_blocked()
        await first.go_on()
        assert isinstance(await resolving_.result(), Resolved)
        assert await waiting.result() == [LeaseLost()]
    assert await budget_of(judged) == (10 * DOLLAR, 10 * DOLLAR - HALF, 0, HALF)


async def test_of_two_operators_one_decides(judged: PostgresStore, sessions: Sessions) -> None:
    _, finding = await set_aside(judged)
    first, second = await sessions.open(), await sessions.open()

    async with trio.open_nursery() as nursery:
        one = await first.start_and_stop(nursery, resolve(finding.finding_id, Settle(HALF)))
        two = start(nursery, partial(second.run, resolve(finding.finding_id, Void())))
        await sessions.until_blocked()
        await first.go_on()
        assert isinstance(await one.result(), Resolved)
        assert isinstance(await two.result(), ResolvedAlready)


@pytest.mark.parametrize("quarantine_first", [False, True])
async def test_a_freeze_is_not_lifted_over_a_finding_that_is_just_opened(
    judged: PostgresStore, sessions: Sessions, *, quarantine_first: bool
) -> None:
    """Setting aside takes no budget lock, as that row may be the one refused."""
    await make_tenant(judged)
    lease = await take_lease(judged)
    one, two = await begin(judged, lease), await begin(judged, lease)
    await judged.quarantine_run(seen(one), {})
    (finding,) = await judged.list_findings()
    operator, settler = await sessions.open(), await sessions.open()
    resolver = resolve(finding.finding_id, Void())
    setting_aside = partial(
        findings.quarantine_run, seen=seen(two), evidence={}, finding_id=uuid4()
    )
    order = [(operator, resolver), (settler, setting_aside)]

    async with trio.open_nursery() as nursery:
        (first, verb), (second, other) = reversed(order) if quarantine_first else order
        standing = await first.start_and_stop(nursery, verb)
        waiting = start(nursery, partial(second.run, other))
        await sessions.until_blocked()
        await first.go_on()
        await standing.result()
        await waiting.result()

    assert [one.subject for one in await judged.list_findings()] == [str(two.fence.run_id)]
    assert await is_frozen(judged)
    (left,) = await judged.list_findings()
    assert not (await resolved(judged, left, Void())).frozen


async def test_what_is_right_once_the_lock_is_had_is_no_finding(
    judged: PostgresStore, admin: Session, sessions: Sessions
) -> None:
    """A snapshot may be wrong only by hands; the second look waits for whoever has the budget."""
    await make_tenant(judged)
    await admin.execute(SHORT)
    looks = Looks(judged)
    (offence,) = await looks.look()
    mender = await sessions.open("postgres")

    async with trio.open_nursery() as nursery:
        await mender.execute(
            "begin; update dpp.budgets set available = available + 1, spent = spent - 1"
        )
        opening = start(nursery, partial(looks.find, [offence]))
        await sessions.until_blocked()
        await mender.execute("commit")
        assert await opening.result() == []
    assert not await is_frozen(judged)


def test_evidence_is_a_budget_row() -> None:
    spending = Spending(date(2026, 3, 1), Micros(1), Micros(2))
    row = Parts(deposited=3, available=1, held=1, spent=1, seq=2, spending=spending)
    parts = {"deposited": 3, "available": 1, "held": 1, "spent": 1, "seq": 2}
    assert shown(row) == parts | {"spend_day": "2026-03-01", "day_spend": 1, "month_spend": 2}


async def test_a_refold_of_a_budget_that_is_gone_is_not_written_with_old_sums(
    store: PostgresStore, admin: Session, sessions: Sessions
) -> None:
    """Where there is no row, nothing is locked: another refold, and a settle, may come between."""
    store.plans = STORE_PLANS
    await make_tenant(store)
    claimed = await begin(store, await take_lease(store))
    await admin.execute("delete from dpp.budgets")
    for name in ("01_budgets_conserve", "02_budgets_equal_ledger"):
        await store.open_finding(name, "acme", "acme", {})
    first, second = await store.list_findings()
    session = await sessions.open()

    async with trio.open_nursery() as nursery:
        late = await session.start_and_stop(
            nursery, resolve(second.finding_id, Refold()), before=LOCK_TENANT
        )
        assert isinstance(
            await store.resolve_finding(resolving(first.finding_id, Refold())), Resolved
        )
        assert await end_one(store, claimed) == SETTLED
        good = await budget_of(store)
        await session.go_on()
        with pytest.raises(NotCommitted):  # the store asks again
            await late.result()

    assert await budget_of(store) == good
    assert (await store.audit()).verdicts[1].offenders == ()


async def test_a_long_ledger_is_folded_piece_by_piece_and_what_comes_meanwhile_is_added(
    judged: PostgresStore, admin: Session, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "WHOLE_FACTS", 2)
    await make_busy(judged)
    claimed, *_ = await claim(judged, await take_lease(judged))
    await admin.execute(SHORT)
    looks = Looks(judged)
    finding, *_ = await looks.find(await looks.look())
    session = await sessions.open()

    folded = await session.run(partial(auditing.fold, tenant_id="acme"))
    assert isinstance(await end_one(judged, claimed), Settled)
    answer = await session.run(resolve(finding.finding_id, Refold(), folded))

    assert isinstance(answer, Resolved)
    assert folded.seq > 2 * auditing.WHOLE_FACTS
