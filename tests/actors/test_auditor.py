"""The auditor: what is wrong is told once, a page at a time, and an outage forgets nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import evolve
from structlog.testing import capture_logs

from dpp import metrics
from dpp.actors import auditor as module
from dpp.actors.auditor import ANEW_S, FACTS_MAX, FACTS_MIN, PAGE_S, Auditor, auditor
from dpp.actors.supervisor import supervise
from dpp.admission import TenantFrozen
from dpp.faults import PageBroken, StoreUnavailable
from dpp.live import Live
from tests.actors.world import PLANS, World, asked
from tests.fake_faults import Fault
from tests.fake_store import FakeStore

if TYPE_CHECKING:
    from trio.testing import MockClock

INTERVAL_S = 60.0


async def books(*tenants: str, runs: int = 3) -> FakeStore:
    """Make a store with tenants that have submitted."""
    store = FakeStore(PLANS)
    for tenant_id in tenants or ("acme",):
        await World(store).tenant(tenant_id)
        await store.submit_runs([asked(tenant_id) for _ in range(runs)], wait=True)
    return store


def alarms(lines: list[Any]) -> list[tuple[str, str]]:
    """Return whom a person was called for."""
    found = [line for line in lines if line["event"] == "AUDIT_REQUIRED"]
    assert {line["log_level"] for line in found} <= {"critical"}
    return [(line["reconcile_type"], line["subject"]) for line in found]


async def test_nothing_is_wrong_with_good_books(autojump_clock: MockClock) -> None:
    store = await books("acme", "beta")
    work = Auditor(store)

    with capture_logs() as lines:
        await work.step()
        await store.submit_runs([asked("beta")], wait=True)
        await work.step()

    assert alarms(lines) == []
    assert {name: mark.seq for name, mark in work.marks.items()} == {"acme": 4, "beta": 5}
    assert metrics.findings_open._value.get() == 0


async def test_a_broken_budget_is_told_once_and_freezes_its_tenant_alone(
    autojump_clock: MockClock,
) -> None:
    store = await books("acme", "beta")
    work = Auditor(store)
    await work.step()
    store.rows.budgets["acme"].available -= 1
    store.rows.budgets["acme"].spent += 1

    with capture_logs() as lines:
        await work.step()
        await work.step()
        (refused,) = await store.submit_runs([asked()], wait=True)
        (created,) = await store.submit_runs([asked("beta")], wait=True)

    (finding,) = await store.list_findings()
    (line,) = [line for line in lines if line["event"] == "AUDIT_REQUIRED"]
    assert alarms(lines) == [("02_budgets_equal_ledger", "acme")]
    assert (line["tenant_id"], line["finding_id"]) == ("acme", str(finding.finding_id))
    assert refused == TenantFrozen()
    assert created.run_id
    assert finding.evidence["offender"]["available"] + 1 == 10_000_000 - 300_000
    assert metrics.findings_open._value.get() == 1


async def test_a_mark_that_counts_what_is_gone_calls_nobody(autojump_clock: MockClock) -> None:
    """A hand took a fact away, and an operator wrote the budget anew from those that are left."""
    store = await books("acme", "beta")
    work = Auditor(store)
    await work.step()
    mark = work.marks["acme"]
    assert mark.was_at_end
    more = evolve(mark.sums, entries=mark.sums.entries + 1, deposited=mark.sums.deposited + 1)
    work.marks["acme"] = evolve(mark, seq=mark.seq + 1, sums=more)
    await store.submit_runs([asked() for _ in range(2)], wait=True)

    with capture_logs() as lines:
        await work.step()
        await work.step()

    assert alarms(lines) == []
    assert await store.list_findings() == []
    assert work.marks["acme"].sums.entries == mark.sums.entries + 2


async def test_a_run_that_is_neither_is_what_alerts_look_for(autojump_clock: MockClock) -> None:
    store = await books()
    lost = next(iter(store.rows.live))
    del store.rows.live[lost]

    with capture_logs() as lines:
        await Auditor(store).step()

    (line,) = [line for line in lines if line["event"] == "AUDIT_REQUIRED"]
    assert alarms(lines) == [("no_receipt_audit", str(lost))]
    assert line["run_id"] == str(lost)


async def test_what_is_right_by_the_second_look_is_no_finding(autojump_clock: MockClock) -> None:
    store = await books()
    store.rows.budgets["acme"].available -= 1
    store.faults.fail("open_findings", Fault(before_s=1.0))

    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Auditor(store).step)
            await trio.sleep(0.5)
            store.rows.budgets["acme"].available += 1

    assert alarms(lines) == []
    assert await store.list_findings() == []


async def test_a_pass_is_pages_and_a_long_ledger_is_read_in_parts(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TENANTS_MAX", 2)
    monkeypatch.setattr(module, "FACTS_MAX", 3)
    store = await books(*(f"t{n}" for n in range(5)), runs=6)
    work = Auditor(store, facts_max=3)

    await work.step()

    assert {mark.seq for mark in work.marks.values()} == {7}
    assert len(work.marks) == 5
    assert store.faults.calls.count("audit_page") >= 5 * 7 / 3


async def test_what_changed_behind_a_mark_is_found_within_a_day(autojump_clock: MockClock) -> None:
    store = await books()
    work = Auditor(store)
    await work.step()
    (run_id, row), *_ = store.rows.submissions.items()
    store.rows.submissions[run_id] = evolve(row, asked=evolve(row.asked, max_cost=1))

    await work.step()
    assert await store.list_findings() == []
    await trio.sleep(ANEW_S)
    await work.step()

    assert {one.invariant[:2] for one in await store.list_findings()} >= {"02", "06"}


async def test_an_outage_forgets_nothing(autojump_clock: MockClock) -> None:
    store = await books()
    work = Auditor(store)

    async with trio.open_nursery() as nursery:
        run = lambda: auditor(work, interval=Live(INTERVAL_S))  # noqa: E731
        nursery.start_soon(supervise, "auditor", run)
        await trio.sleep(INTERVAL_S)
        with store.faults.outage():
            await trio.sleep(5 * INTERVAL_S)
        marks = dict(work.marks)
        store.rows.budgets["acme"].held += 1
        await trio.sleep(2 * INTERVAL_S)
        nursery.cancel_scope.cancel()

    assert marks["acme"].seq == 4
    assert {one.invariant[:2] for one in await store.list_findings()} == {"01", "02"}


async def test_a_page_that_the_server_cannot_read_ends_no_node(autojump_clock: MockClock) -> None:
    """Nothing but the audit reads those facts; runs go on, and a person is told."""
    store, ended = await books(), list[BaseException]()
    work = Auditor(store)
    for nth in range(1, 10):  # more than an actor may crash
        store.faults.fail("audit_page", Fault(PageBroken("a torn page")), nth=nth)

    async with trio.open_nursery() as nursery:
        run = lambda: auditor(work, interval=Live(1.0))  # noqa: E731
        nursery.start_soon(supervise, "auditor", run, ended.append)
        await trio.sleep(20)
        store.rows.budgets["acme"].held += 1
        await trio.sleep(3)
        nursery.cancel_scope.cancel()

    assert ended == []
    assert {one.invariant[:2] for one in await store.list_findings()} == {"01", "02"}


async def test_an_answer_that_is_lost_is_looked_at_once_more(autojump_clock: MockClock) -> None:
    store = await books()
    work = Auditor(store)
    store.rows.budgets["acme"].held += 1
    store.faults.fail("open_findings", Fault(StoreUnavailable("down")))

    with pytest.raises(StoreUnavailable):
        await work.step()
    assert work.marks == {}
    await work.step()

    assert len(await store.list_findings()) == 2


async def test_pages_are_as_large_as_their_time(autojump_clock: MockClock) -> None:
    store = await books()
    work = Auditor(store)

    store.faults.fail("audit_page", Fault(before_s=2 * PAGE_S))
    await work.step()
    assert work.facts_max == FACTS_MAX // 2
    await work.step()
    assert work.facts_max == FACTS_MAX
    store.faults.fail("audit_page", Fault(StoreUnavailable("too long")))
    with pytest.raises(StoreUnavailable):
        await work.step()
    assert work.facts_max == FACTS_MIN
