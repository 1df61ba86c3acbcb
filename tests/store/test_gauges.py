"""What is read to be shown, on PostgreSQL: a long queue is estimated, and the server's health."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpp.store import gauges
from dpp.store.queries import queries
from tests.store.steps import make_tenant

if TYPE_CHECKING:
    from dpp.store.postgres import PostgresStore
    from tests.store.sessions import Session

# Rows that nobody submitted: nothing here claims or judges them.
QUEUED = """
set session_replication_role = replica;
insert into dpp.live_runs (run_id, tenant_id, available_at, expires_at, max_cost, minimum_fee,
                           timebox_s, priority, pack_type, budget_day)
  select gen_random_uuid(), 'acme', now(), now(), 1, 0, 1, 5,
         case when n % 4 = 0 then 'echo' else 'decision' end, current_date
    from generate_series(1, {runs}) n;
set session_replication_role = origin;
analyze dpp.live_runs
"""


async def test_a_queue_is_exact_up_to_the_bound_and_about_right_beyond(
    store: PostgresStore, admin: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twentieth of about a thousand pages is drawn: 50, of which four sigmas are 28."""
    await make_tenant(store)
    await admin.execute(QUEUED.format(runs=40_000))
    pages = await admin.fetchval("select pg_relation_size('dpp.live_runs') / 8192")
    monkeypatch.setattr(gauges, "PAGES", pages // 20)

    monkeypatch.setattr(gauges, "COUNTED_MAX", 40_000)
    exact = (await store.read_gauges([])).runs
    monkeypatch.setattr(gauges, "COUNTED_MAX", 1_000)
    about = (await store.read_gauges([])).runs

    assert exact == {("QUEUED", "echo"): 10_000, ("QUEUED", "decision"): 30_000}
    assert about != exact
    for key, runs in exact.items():
        assert about[key] == pytest.approx(runs, rel=0.6)


async def test_an_estimate_reads_a_bounded_number_of_pages(admin: Session) -> None:
    await admin.execute(QUEUED.format(runs=20_000))
    await admin.execute("set search_path = dpp")
    drawn = queries.sample_live_runs.sql

    plan = "\n".join(
        row[0] for row in await admin.fetch(f"explain (analyze, costs off) {drawn}", 20)
    )

    assert "Sample Scan on live_runs" in plan
    assert "Seq Scan" not in plan
    looked_at = float(plan.split("Sample Scan on live_runs")[1].split("rows=")[1].split(" ")[0])
    assert looked_at < 4_000  # of 20,000, by some 20 pages of 40


async def test_the_servers_health_tells_dead_rows_and_who_keeps_them(
    store: PostgresStore, admin: Session
) -> None:
    before = (await store.read_gauges([])).health

    await admin.execute("begin isolation level repeatable read")
    await admin.fetch("select 1")
    for n in range(20):  # each takes a transaction id
        await make_tenant(store, f"tenant-{n}")
    held = (await store.read_gauges([])).health
    await make_tenant(store, "last")
    later = (await store.read_gauges([])).health
    await admin.execute("rollback")
    over = (await store.read_gauges([])).health

    assert {"live_runs", "budgets"} <= before.dead_rows.keys()
    assert held.oldest_xmin_age >= 20
    assert held.frozen_xid_age > before.frozen_xid_age
    assert not held.waits_for_standby
    oldest = [one.transactions - one.oldest_xmin_age for one in (held, later, over)]
    assert oldest[0] == oldest[1] < oldest[2]
