"""Both judges: each invariant is broken by hand, and both find it; a clean store is clean.

Hands are a superuser's, with triggers off: what the schema's own walls refuse is let through here,
and where a CHECK or a key stands in the way it is taken down first.
"""

# ruff: noqa: S608 - every statement here is made of constants of this file
from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import evolve, field, frozen

from dpp.claims import Seen
from dpp.leases import Lapse
from dpp.ledger import Kind, Posted
from dpp.money import Micros
from dpp.settlement import CanceledWhileRunning, Completed, FailedByItself
from dpp.store.audits import invariants
from tests.oracle import money
from tests.oracle.money import Memory, violations
from tests.store.contract import REFUSED, seen, spend_attempts
from tests.store.examples import DOLLAR, STORE_PLANS, new_key, posting, submission
from tests.store.steps import ALL, begin, create, end_one, make_tenant, settle, take_lease

if TYPE_CHECKING:
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session

OF_ACME = "where tenant_id = 'acme'"
COMPLETED = "(select run_id from dpp.endings where status = 'COMPLETED' order by seq limit 1)"
QUEUED = "(select run_id from dpp.live_runs where lease_id is null order by run_id limit 1)"
LOST = "(select run_id from dpp.endings where error_code = 'lost_lease')"
CAPPED = "(select run_id from dpp.submissions where allowance_id is not null order by seq limit 1)"
REFUSED_RUN = "(select run_id from dpp.endings where error_code = 'pack_refused' and cost > 0)"


@frozen
class Break:
    """What is done, who must find it, and which walls are taken down for it."""

    name: str
    does: str
    audit: str  # the number of the invariant that finds it; empty = it is not the audit's affair
    promise: str  # how the second judge's promise begins
    walls: tuple[tuple[str, str], ...] = field(default=())


BREAKS = [
    # 1: budgets conserve
    Break(
        "money out of nothing",
        "update dpp.budgets set available = available + 1 where tenant_id = 'acme'",
        "01",
        "M1 what came in is there, per tenant",
        (("budgets", "budgets_conserve"),),
    ),
    Break(
        "a negative part",
        f"update dpp.budgets set available = -1, spent = spent + available + 1 {OF_ACME}",
        "01",
        "M4",
        (("budgets", "budgets_parts"),),
    ),
    # 2: budgets equal the ledger, which has no gap
    Break(
        "spent instead of available",
        f"update dpp.budgets set available = available - 1, spent = spent + 1 {OF_ACME}",
        "02",
        "M4",
    ),
    Break(
        "deposited and available together",
        "update dpp.budgets set available = available + 1, deposited = deposited + 1"
        " where tenant_id = 'acme'",
        "02",
        "M1 what came in is there, per tenant",
    ),
    Break(
        "a place in the ledger that is empty",
        f"update dpp.transfers set seq = seq + 1000 {OF_ACME} and reference = 'first'",
        "02",
        "M7 each",
    ),
    Break(
        "a place in the ledger that is taken twice",
        "update dpp.transfers set seq = 2 where reference = 'out'",
        "02",
        "M7 each",
    ),
    Break(
        "a budget that is further than its ledger",
        "update dpp.budgets set seq = seq + 1 where tenant_id = 'acme'",
        "02",
        "M7 each",
    ),
    Break(
        "a budget that is gone",
        "delete from dpp.budgets where tenant_id = 'acme'",
        "02",
        "M1 every fact",
    ),
    # 3: held is what is unresolved
    Break(
        "held without a reserve",
        f"update dpp.budgets set held = held + 1, available = available - 1 {OF_ACME}",
        "03",
        "M5 held",
    ),
    # 4: live or ended
    Break(
        "a run that is neither",
        f"delete from dpp.live_runs where run_id = {QUEUED}",
        "04",
        "M5 a reserve",
    ),
    Break(
        "a run that is both",
        "insert into dpp.live_runs (run_id, tenant_id, available_at, expires_at, max_cost,"
        " minimum_fee, timebox_s, priority, pack_type, budget_day)"
        " select run_id, tenant_id, now(), now(), max_cost, minimum_fee, timebox_s, priority,"
        f" pack_type, budget_day from dpp.submissions where run_id = {COMPLETED}",
        "04",
        "M5 a reserve",
    ),
    Break(
        "a live run that nobody submitted",
        f"delete from dpp.submissions where run_id = {QUEUED}",
        "04",
        "M5 a reserve",
    ),
    Break(
        "an ending that nobody submitted",
        f"delete from dpp.submissions where run_id = {COMPLETED}",
        "04",
        "M2",
    ),
    Break(
        "an ending of another tenant's run",
        f"update dpp.endings set tenant_id = 'other', seq = seq + 1000 where run_id = {COMPLETED}",
        "04",
        "M2",
    ),
    Break(
        "two endings of one run",
        "insert into dpp.endings (run_id, tenant_id, seq, status, kind, cost, returned,"
        " lease_epoch, attempts_spent, cancel_asked, ending_id, finished_at)"
        " select run_id, tenant_id, 900, 'CANCELED', 'void', 0, cost + returned, lease_epoch,"
        f" 0, false, gen_random_uuid(), now() from dpp.endings where run_id = {COMPLETED}",
        "02",
        "M2",
        (("endings", "endings_run"),),
    ),
    # 5: reserves are resolved whole
    Break(
        "a reserve of which a part was lost",
        f"update dpp.endings set returned = returned - 1 where run_id = {COMPLETED}",
        "05",
        "M3",
    ),
    Break(
        "a cost over the reserve",
        "update dpp.endings set cost = cost + returned + 1, returned = 0"
        f" where run_id = {COMPLETED}",
        "05",
        "M3",
    ),
    # 6: rows agree
    Break(
        "a live run that holds more than was submitted",
        f"update dpp.live_runs set max_cost = max_cost + 1 where run_id = {QUEUED}",
        "06",
        "a live row",
    ),
    Break(
        "a live run with another fee",
        f"update dpp.live_runs set minimum_fee = minimum_fee + 1 where run_id = {QUEUED}",
        "06",
        "a live row",
    ),
    Break(
        "a live run that would count back on another day",
        f"update dpp.live_runs set budget_day = budget_day - 1 where run_id = {QUEUED}",
        "06",
        "a live row",
    ),
    Break(
        "a live run that would give back to no allowance",
        "update dpp.live_runs set allowance_id = null where allowance_id is not null",
        "06",
        "a live row",
    ),
    Break(
        "a live run that would give back to an allowance",
        f"update dpp.live_runs set allowance_id = 'capped' where run_id = {QUEUED}",
        "06",
        "a live row",
    ),
    Break(
        "a failure that cost less than the fee",
        f"update dpp.endings set returned = returned + cost, cost = 0 where run_id = {REFUSED_RUN}",
        "06",
        "who pays",
    ),
    Break(
        "a failure of the run's own that was voided",
        "update dpp.endings set returned = returned + cost, cost = 0, kind = 'void'"
        f" where run_id = {REFUSED_RUN}",
        "06",
        "who pays",
        (("endings", "endings_payer"),),
    ),
    Break(
        "a failure of the platform's that was charged",
        "update dpp.endings set cost = 900000, returned = returned - 900000, kind = 'settle'"
        f" where run_id = {LOST}",
        "06",
        "who pays",
        (("endings", "endings_payer"),),
    ),
    Break(
        "a completed run that was voided",
        f"update dpp.endings set kind = 'void', cost = 0, returned = cost + returned"
        f" where run_id = {COMPLETED}",
        "06",
        "who pays",
        (("endings", "endings_kind"),),
    ),
    # 7 and 8: hashes and results
    Break(
        "inputs that are not the ones submitted",
        f"update dpp.submissions set inputs = 'forged' where run_id = {QUEUED}",
        "07",
        "M6 inputs",
    ),
    Break(
        "a result that is not the one stored",
        f"update dpp.endings set result = 'forged' where run_id = {COMPLETED}",
        "07",
        "M6 a completed",
    ),
    Break(
        "a result that is gone",
        f"update dpp.endings set result = null where run_id = {COMPLETED}",
        "08",
        "M6 a completed",
    ),
    # 9: usage
    Break(
        "a run that was counted twice",
        "update dpp.usage_days set runs = runs + 1 where tenant_id = 'acme'",
        "09",
        "usage",
    ),
    Break(
        "a cost that was counted short",
        "update dpp.usage_days set cost = cost - 1 where tenant_id = 'acme'",
        "09",
        "usage",
    ),
    Break(
        "a day that is gone", "delete from dpp.usage_days where tenant_id = 'acme'", "09", "usage"
    ),
    Break(
        "a day that never was",
        "insert into dpp.usage_days values ('other', '2020-02-02', 1, 1, 0, 1, 1)",
        "09",
        "usage",
    ),
    # 10: what came in is there
    Break(
        "a deposit that grew",
        f"update dpp.transfers set amount = amount + 1 {OF_ACME} and reference = 'first'",
        "10",
        "M1 what came in is there, in all",
    ),
    Break(
        "a withdrawal that vanished",
        "delete from dpp.transfers where reference = 'out'",
        "10",
        "M1 what came in is there, in all",
    ),
    Break(
        "an adjust the other way",
        "update dpp.transfers set amount = -amount where reference = 'mend'",
        "10",
        "M1 what came in is there, in all",
    ),
    Break(
        "an adjust that is told as a refund",
        f"update dpp.transfers set kind = 'refund', run_id = {COMPLETED} where reference = 'more'",
        "10",
        "M1 what came in is there, in all",
    ),
    Break(
        "a refund that grew",
        "update dpp.transfers set amount = amount + 1 where reference = 'back'",
        "02",
        "M4",
    ),
    # 11: refunds are within the cost of their run
    Break(
        "more refunded than the run cost, and all sums right",
        "with more as (update dpp.transfers set amount = amount + 490000 where reference = 'back')"
        " update dpp.budgets set available = available + 490000, spent = spent - 490000"
        f" {OF_ACME}",
        "11",
        "M10",
    ),
    Break(
        "a refund of a run that was free",
        f"update dpp.transfers set run_id = {LOST} where reference = 'back'",
        "11",
        "M10",
    ),
    Break(
        "a refund of a run that has not ended",
        f"update dpp.transfers set run_id = {QUEUED} where reference = 'back'",
        "11",
        "M10",
    ),
    Break(
        "a refund of another tenant's run",
        "update dpp.transfers set run_id = (select run_id from dpp.endings"
        " where tenant_id = 'other' and status = 'COMPLETED') where reference = 'back'",
        "11",
        "M10",
    ),
    # 12: what a day and a month spend
    Break(
        "a reserve that its day did not count",
        f"update dpp.budgets set day_spend = day_spend - 1 {OF_ACME}",
        "12",
        "spend of the last day",
    ),
    Break(
        "a month that counted something twice",
        f"update dpp.budgets set month_spend = month_spend + 1 {OF_ACME}",
        "12",
        "spend of the last month",
    ),
    Break(
        "a day of which nobody reserved anything",
        f"update dpp.budgets set spend_day = spend_day + 1 {OF_ACME}",
        "12",
        "spend counts on",
    ),
    Break(
        "a reserve that was moved to a day before",
        f"update dpp.submissions set budget_day = budget_day - 1 where run_id = {CAPPED}",
        "12",
        "no reserve counts",
    ),
    Break(
        "a reserve that was moved to a month to come",
        f"update dpp.submissions set budget_day = budget_day + 40 where run_id = {COMPLETED}",
        "12",
        "no reserve counts",
    ),
    # 13: what an allowance has used
    Break(
        "an allowance that forgot a reserve",
        "update dpp.allowances set used = used - 1 where allowance_id = 'capped'",
        "13",
        "an allowance has",
    ),
    Break(
        "an allowance that counted what nobody reserved",
        "update dpp.allowances set used = 1 where allowance_id = 'unused'",
        "13",
        "an allowance has",
    ),
    Break(
        "an allowance that is gone",
        "delete from dpp.allowances where allowance_id = 'capped'",
        "13",
        "an allowance has",
    ),
    Break(
        "an allowance of another tenant's",
        "update dpp.allowances set tenant_id = 'other' where allowance_id = 'capped'",
        "13",
        "an allowance has",
    ),
    Break(
        "a reserve that was moved to another allowance",
        f"update dpp.submissions set allowance_id = 'unused' where run_id = {CAPPED}",
        "13",
        "an allowance has",
    ),
    Break(
        "an allowance that used more than it may",
        "update dpp.allowances set spend_limit = used - 1 where allowance_id = 'capped'",
        "13",
        "no allowance",
        (("allowances", "allowances_amount"),),
    ),
    # the second judge's alone
    Break(
        "a refund of which nobody said why",
        "update dpp.transfers set reason = null where reference = 'back'",
        "",
        "a transfer is",
        (("transfers", "transfers_reason"),),
    ),
    Break(
        "a key that names two runs",
        "update dpp.submissions set idempotency_key = 'order-1' where tenant_id = 'acme'",
        "",
        "M9",
        (("submissions", "submissions_key"),),
    ),
    Break(
        "a fee that its rule does not give",
        f"update dpp.submissions set minimum_fee = 7 where run_id = {COMPLETED}",
        "",
        "the fee",
    ),
    Break(
        "progress of an attempt that never was",
        "insert into dpp.run_events"
        f" values ({QUEUED}, 9, 1, 'acme', 'progress', 1, null, null, now())",
        "",
        "M8",
    ),
    Break(
        "a guard that was taken down",
        "alter table dpp.transfers disable trigger transfers_append_only",
        "14",
        "M7 the guards",
        (("transfers", "transfers_subject"),),  # so that it gets a database of its own
    ),
    Break(
        "a guard without teeth",
        "create or replace function dpp.refuse_change() returns trigger language plpgsql"
        " as 'begin return null; end'",
        "14",
        "M7 the guards",
        (("transfers", "transfers_subject"),),
    ),
    # 16: closing entries hold
    Break(
        "a closing entry over nothing that is there",
        "insert into dpp.closings (tenant_id, seq, deposited, closed_at)"
        " values ('acme', 1, 7, now())",
        "16",
        "M7 a closing entry",
    ),
    # 15: budgets have tenants; the auditor goes by tenants, and does not see that one is gone
    Break(
        "a tenant that is gone",
        "delete from dpp.tenants where tenant_id = 'acme'",
        "15",
        "every budget is a tenant's",
        (("transfers", "transfers_subject"),),
    ),
]


async def make_busy(store: PostgresStore) -> None:
    """Bring about one of everything that can become of a run."""
    store.plans = STORE_PLANS
    for tenant_id, plan in (("acme", "fee"), ("other", "unlimited")):
        await make_tenant(store, tenant_id, plan=plan, deposit=50 * DOLLAR)
    lease = await take_lease(store)
    for tenant_id in ("acme", "other"):
        for outcome in (
            Completed(b"{}", Micros(DOLLAR // 2)),
            FailedByItself(REFUSED, Micros(0)),
            CanceledWhileRunning(Micros(DOLLAR // 4)),
            CanceledWhileRunning(Micros(0)),
        ):
            await end_one(store, await begin(store, lease, tenant_id), outcome)
    lost = await spend_attempts(store, lease, await begin(store, lease, max_cost=2 * DOLLAR), 2)
    await store.take_back([seen(lost)], Lapse.LOST)
    canceled = await create(store)
    await store.cancel_run("acme", canceled.run_id)
    await store.post_transfer(posting(DOLLAR, "out", kind=Kind.WITHDRAW))
    await store.post_transfer(posting(3, "more", kind=Kind.ADJUST))
    await store.post_transfer(posting(-2, "mend", kind=Kind.ADJUST))
    costly = await settle(store, cost=DOLLAR // 2)
    refund = posting(DOLLAR // 4, "back", kind=Kind.REFUND, run_id=costly)
    assert isinstance(await store.post_transfer(refund), Posted)
    for key_id in ("capped", "unused"):
        key = evolve(new_key(key_id, "acme"), spend_limit=Micros(3 * DOLLAR))
        await store.create_key(key, operator="ops")
    await end_one(store, await begin(store, lease, key_id="capped"))
    await begin(store, lease)
    await create(store)
    await create(store, "other")
    await create(store, key_id="capped")


async def break_it(admin: Session, one: Break) -> None:
    await admin.execute("set session_replication_role = replica")
    for table, constraint in one.walls:
        await admin.execute(f"alter table dpp.{table} drop constraint {constraint}")
    done = await admin.execute(one.does)
    assert not done.endswith(" 0"), one.name


async def found_by_both(store: PostgresStore, admin: Session) -> tuple[set[str], set[str]]:
    """Return the numbers of the invariants, and the beginnings of the promises, that are broken."""
    audit = await store.audit()
    found = await admin.run(violations)
    return (
        {verdict.name[:2] for verdict in audit.verdicts if verdict.offenders},
        {violation.promise for violation in found},
    )


class TestOnSharedDatabase:
    @pytest.fixture
    def database(self, emptied: Database) -> Database:
        return emptied

    async def test_a_busy_store_is_clean_by_both(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_busy(store)

        assert await found_by_both(store, admin) == (set(), set())
        assert (await store.audit()).ok
        page = await store.list_runs("acme", before=None, limit=ALL)
        statuses = {run.status for run in page.runs}
        assert statuses == {"QUEUED", "PROCESSING", "COMPLETED", "FAILED", "CANCELED"}

    async def test_an_empty_store_is_clean_by_both(
        self, store: PostgresStore, admin: Session
    ) -> None:
        assert await found_by_both(store, admin) == (set(), set())

    @pytest.mark.parametrize(
        "one", [one for one in BREAKS if not one.walls], ids=lambda one: one.name
    )
    async def test_what_is_broken_is_found_by_both(
        self, store: PostgresStore, admin: Session, one: Break
    ) -> None:
        await make_busy(store)
        await break_it(admin, one)

        audit, promises = await found_by_both(store, admin)

        assert not one.audit or one.audit in audit
        assert any(promise.startswith(one.promise) for promise in promises), promises
        assert (await store.audit()).ok == (not audit)

    async def test_an_open_finding_is_not_clean(self, store: PostgresStore) -> None:
        await make_busy(store)
        one = await create(store)
        await store.quarantine_run(Seen(one.run_id, "acme", None, 0), {"why": "refused"})

        audit = await store.audit()

        assert not audit.ok
        assert [verdict for verdict in audit.verdicts if verdict.offenders] == []
        assert [finding.subject for finding in audit.findings] == [str(one.run_id)]

    async def test_offenders_are_named(self, store: PostgresStore, admin: Session) -> None:
        await make_busy(store)
        await admin.execute("set session_replication_role = replica")
        await admin.execute("update dpp.usage_days set runs = runs + 1 where tenant_id = 'acme'")

        audit = await store.audit()

        (broken,) = [verdict for verdict in audit.verdicts if verdict.offenders]
        assert broken.claim.startswith("usage per day = what the closing entry counts of that day")
        (offender,) = broken.offenders
        assert (offender["tenant_id"], offender["runs"]) == ("acme", offender["runs_folded"] + 1)

    async def test_a_run_that_is_neither_is_never_shown_as_something_else(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_tenant(store)
        one = await create(store)
        await admin.execute("delete from dpp.live_runs")

        with pytest.raises(LookupError, match="neither live nor ended"):
            await store.get_run("acme", one.run_id)

    async def test_the_audit_is_one_snapshot_and_writes_nothing(
        self, store: PostgresStore, admin: Session
    ) -> None:
        """While a transaction is half-way, what it did is not seen, and it is not waited for."""
        await make_busy(store)
        await admin.execute("begin; update dpp.budgets set seq = seq + 1")

        assert (await store.audit()).ok

        await admin.execute("rollback")

    async def test_what_changed_since_it_last_looked_is_found_by_memory(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_busy(store)
        memory = Memory()

        async def look() -> set[str]:
            found = await admin.run(lambda connection: violations(connection, memory))
            return {violation.promise for violation in found}

        assert await look() == set()
        await store.submit_runs([submission()], wait=True)
        assert await look() == set()
        await admin.execute("set session_replication_role = replica")
        await admin.execute(
            "update dpp.submissions set trace_id = 'forged' where tenant_id = 'other'"
        )
        assert await look() == {"M7 no fact is ever changed"}
        await admin.execute(
            "update dpp.endings set lease_epoch = lease_epoch - 1 where lease_epoch > 1"
        )
        assert "M8 no epoch ever falls" in await look()


class TestOnDatabaseOfItsOwn:
    @pytest.mark.parametrize("one", [one for one in BREAKS if one.walls], ids=lambda one: one.name)
    async def test_what_no_wall_kept_out_is_found_by_both(
        self, store: PostgresStore, admin: Session, one: Break
    ) -> None:
        await make_busy(store)
        await break_it(admin, one)

        audit, promises = await found_by_both(store, admin)

        assert not one.audit or one.audit in audit
        assert any(promise.startswith(one.promise) for promise in promises), promises


def test_every_invariant_and_every_promise_is_broken_by_a_test() -> None:
    assert {one.audit for one in BREAKS} - {""} == {one.name[:2] for one in invariants()}
    told = [
        [promise for promise in money.CHECKS if promise.startswith(one.promise)] for one in BREAKS
    ]
    assert [len(promises) for promises in told] == [1] * len(BREAKS)
    assert {promise for promises in told for promise in promises} == set(money.CHECKS)


def test_the_second_judge_shares_nothing_with_what_it_judges() -> None:
    text = Path(money.__file__).read_text()
    imported = {
        name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or node.names[0].name]
    }

    assert imported == {"__future__", "typing", "attrs"}
    assert "sql/" not in text
    assert "open(" not in text
