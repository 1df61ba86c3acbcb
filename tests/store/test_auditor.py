"""The auditor's looks on PostgreSQL: what is broken is found, once, as the whole audit finds it.

Breaks are those of `test_audit`, made by a superuser with triggers off. What is looked at is
either the ledger from its start, or what came after a mark.
"""

# ruff: noqa: S608 - every statement here is made of constants of this file
from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from dpp.auditing import (
    ALLOWANCES,
    EQUAL_LEDGER,
    GUARDED,
    KNOWN,
    LIVE_OR_ENDED,
    SPEND,
    Mark,
    offence,
)
from dpp.metrics import findings_total
from dpp.store import auditing
from tests.store.steps import claim, create, end_one, make_tenant, settle, take_lease
from tests.store.test_audit import BREAKS, OF_ACME, Break, break_it, make_busy
from tests.store.worlds import postgres_world

if TYPE_CHECKING:
    from dpp.auditing import Offence
    from dpp.findings import Finding
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions

TENANTS = 1_000

# In a tenant whose ledger was looked through, and has moved since.
LAST_ENDING = "(select max(seq) from dpp.endings where tenant_id = 'acme')"
LAST_SUBMISSION = "(select max(seq) from dpp.submissions where tenant_id = 'acme')"
OLD_RUN = "(select run_id from dpp.live_runs where tenant_id = 'acme' order by run_id limit 1)"
LATE = """
insert into dpp.transfers values ('acme', 900, 'deposit', 1, null, 'late', null, 'ops', now())
"""
MOVED = {
    "an old live row is gone": (f"delete from dpp.live_runs where run_id = {OLD_RUN}", "04"),
    "a new result is forged": (
        f"update dpp.endings set result = 'forged' {OF_ACME} and seq = {LAST_ENDING}",
        "07",
    ),
    "a new ending lost a part": (
        f"update dpp.endings set returned = returned - 1 {OF_ACME} and seq = {LAST_ENDING}",
        "05",
    ),
    "today was counted twice": (f"update dpp.usage_days set runs = runs + 1 {OF_ACME}", "09"),
    "a fact lies behind the end": (LATE, "02"),
    "a new reserve was not counted on its day": (
        f"update dpp.budgets set day_spend = day_spend - 1 {OF_ACME}",
        "12",
    ),
    "a new ending was not counted back in its month": (
        f"update dpp.budgets set month_spend = month_spend + 1 {OF_ACME}",
        "12",
    ),
    "the day of the counters is another": (
        f"update dpp.budgets set spend_day = spend_day - 40 {OF_ACME}",
        "12",
    ),
    "an allowance was counted twice": (
        "update dpp.allowances set used = used + 1 where allowance_id = 'capped'",
        "13",
    ),
    "an allowance is gone": ("delete from dpp.allowances where allowance_id = 'capped'", "13"),
    "a live row forgot its allowance": (
        "update dpp.live_runs set allowance_id = null where allowance_id is not null",
        "06",
    ),
    "a new fact is missing": (
        f"delete from dpp.submissions {OF_ACME} and seq = {LAST_SUBMISSION}",
        "02",
    ),
}


class Looks:
    """What an auditor remembers."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.marks: dict[str, Mark] = {}

    async def look(self, facts_max: int = 1_000) -> list[Offence]:
        """Make a pass; return what is wrong."""
        found: list[Offence] = []
        after: str | None = ""
        while after is not None:
            page = await self.store.audit_page(
                self.marks, after=after, tenants_max=TENANTS, facts_max=facts_max
            )
            self.marks.update(page.marks)
            found += page.offences
            after = page.after
        return found

    async def find(self, found: list[Offence]) -> list[Finding]:
        """Open findings, tenant by tenant."""
        opened = []
        for tenant_id in sorted({str(one.tenant_id) for one in found}):
            ours = [one for one in found if one.tenant_id == tenant_id]
            mark = self.marks.get(tenant_id, Mark())
            opened += await self.store.open_findings(tenant_id, ours, mark)
        return opened


async def whole(store: PostgresStore) -> set[tuple[tuple[str, str], str]]:
    """Return what the whole audit finds: keys and digests."""
    audit = await store.audit()
    found = [offence(verdict.name, row) for verdict in audit.verdicts for row in verdict.offenders]
    return {(one.key, one.digest) for one in found}


async def agree(store: PostgresStore, looks: Looks, found: list[Offence]) -> None:
    """The looks find nothing that the whole audit does not, and something where it does."""
    all_of_it = {one for one in await whole(store) if one[0][0] not in {GUARDED, KNOWN}}
    assert {(one.key, one.digest) for one in found} <= all_of_it
    assert bool(found) == bool(all_of_it)
    opened = await looks.find(found)
    assert {(one.invariant, one.subject) for one in opened} == {one.key for one in found}
    assert await looks.look() == []
    frozen = {one.tenant_id for one in opened}
    for tenant in await store.list_tenants(after="", limit=10):
        assert tenant.frozen == (tenant.tenant_id in frozen)


class TestOnSharedDatabase:
    @pytest.fixture
    def database(self, emptied: Database) -> Database:
        return emptied

    @pytest.mark.parametrize("facts_max", [1, 3, 1_000])
    async def test_a_busy_store_is_clean_in_pages_of_any_size(
        self, store: PostgresStore, facts_max: int
    ) -> None:
        await make_busy(store)
        looks = Looks(store)

        assert await looks.look(facts_max) == []
        assert await looks.look(facts_max) == []

        budgets = {one.tenant_id: one.budget for one in await store.list_tenants(after="", limit=9)}
        for tenant_id, mark in looks.marks.items():
            sums = mark.sums
            assert (sums.deposited, sums.available, sums.held, sums.spent) == (
                budgets[tenant_id].deposited,
                budgets[tenant_id].available,
                budgets[tenant_id].held,
                budgets[tenant_id].spent,
            )

    @pytest.mark.parametrize("one", [x for x in BREAKS if not x.walls], ids=lambda one: one.name)
    async def test_what_is_broken_is_found_from_the_start(
        self, store: PostgresStore, admin: Session, one: Break
    ) -> None:
        await make_busy(store)
        await break_it(admin, one)
        looks = Looks(store)

        found = await looks.look(facts_max=2)

        await agree(store, looks, found)
        if one.audit:
            assert found

    @pytest.mark.parametrize(("does", "number"), MOVED.values(), ids=MOVED)
    async def test_what_is_broken_behind_or_after_the_mark_is_found_when_it_moves(
        self, store: PostgresStore, admin: Session, does: str, number: str
    ) -> None:
        await make_busy(store)
        looks = Looks(store)
        assert await looks.look() == []
        lease = await take_lease(store)
        for claimed in await claim(store, lease):
            await end_one(store, claimed)
        await create(store)
        await create(store, key_id="capped")
        await admin.execute("set session_replication_role = replica")
        assert not (await admin.execute(does)).endswith(" 0")

        found = await looks.look()

        assert number in {one.invariant[:2] for one in found}
        await agree(store, looks, found)

    async def test_an_idle_tenants_budget_is_looked_at_all_the_same(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_busy(store)
        looks = Looks(store)
        await looks.look()
        await admin.execute("update dpp.budgets set held = held + 1, available = available - 1")

        found = await looks.look()

        assert {one.key for one in found} == {(EQUAL_LEDGER, "acme"), (EQUAL_LEDGER, "other")}

    async def test_an_allowance_that_was_touched_in_an_earlier_page_is_judged_after_the_last(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_busy(store)
        looks = Looks(store)
        await looks.look()
        await create(store, key_id="capped")
        for _ in range(3):
            await create(store)
        await admin.execute("update dpp.allowances set used = used + 1 where used > 0")

        found = await looks.look(facts_max=1)

        assert [(one.invariant, one.subject) for one in found] == [(ALLOWANCES, "acme capped")]
        await agree(store, looks, found)

    async def test_an_idle_tenants_counters_are_looked_at_all_the_same(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_busy(store)
        looks = Looks(store)
        await looks.look()
        await admin.execute("update dpp.budgets set month_spend = month_spend + 1")

        found = await looks.look()

        assert {(one.invariant, one.tenant_id) for one in found} == {
            (SPEND, "acme"),
            (SPEND, "other"),
        }
        await agree(store, looks, found)

    async def test_a_live_row_that_is_lost_is_found_though_nothing_moved(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_busy(store)
        looks = Looks(store)
        await looks.look()
        lost = await admin.fetchval(
            f"delete from dpp.live_runs where run_id = {OLD_RUN} returning 1"
        )

        found = await looks.look()

        assert lost == 1
        assert [(one.invariant, one.tenant_id) for one in found] == [(LIVE_OR_ENDED, "acme")]
        await agree(store, looks, found)

    async def test_a_finding_is_opened_once_whoever_looks(
        self, store: PostgresStore, admin: Session
    ) -> None:
        await make_tenant(store)
        one = await create(store)
        await admin.execute("delete from dpp.live_runs")
        first, second = Looks(store), Looks(store)
        by_first, by_second = await first.look(), await second.look()
        before = findings_total.labels(LIVE_OR_ENDED)._value.get()

        (finding,) = await first.find(by_first)

        assert await second.find(by_second) == []
        assert await second.look() == []
        assert (finding.invariant, finding.subject) == (LIVE_OR_ENDED, str(one.run_id))
        assert finding.evidence["digest"] == by_first[0].digest
        assert finding.evidence["offender"]["live"] is False
        assert findings_total.labels(LIVE_OR_ENDED)._value.get() == before + 1

    async def test_the_auditor_cannot_write(self, sessions: Sessions) -> None:
        audit = await sessions.open("dpp_audit")

        with pytest.raises(asyncpg.PostgresError, match=r"read-only|permission denied"):
            await audit.execute("update dpp.tenants set frozen_at = now()")


class TestOnDatabaseOfItsOwn:
    @pytest.mark.parametrize("one", [x for x in BREAKS if x.walls], ids=lambda one: one.name)
    async def test_what_no_wall_kept_out_is_found_from_the_start(
        self, store: PostgresStore, admin: Session, one: Break
    ) -> None:
        await make_busy(store)
        await break_it(admin, one)
        looks = Looks(store)

        found = await looks.look()

        await agree(store, looks, found)
        if one.audit[:2] not in {"", GUARDED[:2], KNOWN[:2]}:
            assert found


async def test_a_clock_that_goes_back_over_midnight_freezes_nobody(
    store: PostgresStore, admin: Session, database: Database
) -> None:
    """As after a failover to a server whose clock lies two seconds behind."""
    world = await postgres_world(store, admin, database)
    await make_tenant(store)
    await world.advance(12 * 3600 + 1)
    await settle(store)
    looks = Looks(store)
    assert await looks.look() == []

    await world.advance(-2)
    await settle(store)

    assert await looks.look() == []
    assert (await store.audit()).ok


async def test_a_lost_run_of_a_long_ledger_is_looked_for_piece_by_piece(
    store: PostgresStore, admin: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "WHOLE_FACTS", 3)
    await make_busy(store)
    looks = Looks(store)
    assert await looks.look() == []
    (row,) = await admin.fetch(OLD_RUN)
    await admin.execute("set session_replication_role = replica")
    await admin.execute(MOVED["an old live row is gone"][0])

    opened = await looks.find(await looks.look())

    assert [(one.invariant, one.subject) for one in opened] == [(LIVE_OR_ENDED, str(row[0]))]
    assert await looks.look() == []
