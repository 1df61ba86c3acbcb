"""Plans at a hundred thousand ended runs: what claims, sweeps and reads touch stays small.

The same rows three times: with the statistics of tables that were analysed while they were empty,
with true ones, and with those of a moment when nothing was queued, which is the normal state of a
queue. What is asserted is work, not time: which tables are read whole, and how many pages a query
touches.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - synchronous fixtures talk to PostgreSQL before trio runs
import json
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from attrs import frozen

from dpp.claims import CLAIM_BYTES
from dpp.store import roles
from dpp.store.queries import queries
from dpp.store.transactions import BEGIN
from tests.conftest import TEMPLATE, Database
from tests.store.conftest import execute
from tests.store.sessions import Session, open_sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dpp.store.bridge import Bridge
    from tests.cluster import Cluster

ENDED, QUEUED, WORKING = 100_000, 20_000, 400
DELIVERED, PENDING = 50_000, 2_000
TENANTS = [f"t{n:02}" for n in range(20)]
LEASE = UUID(int=1)
GONE = UUID(int=2)  # a lease that has no row
PAGE = 100
BIG = {
    "submissions",
    "endings",
    "live_runs",
    "transfers",
    "run_events",
    "webhook_deliveries",
    "allowances",
    "api_keys",
}

# Run n is of tenant n % 20. Ids rise with n. The last are live: queued, then working. The queues of
# the second ten tenants are not due yet, nor what is pending for the second twenty endpoints.
STILL = """
set search_path = dpp;
alter table submissions set (autovacuum_enabled = false);
alter table endings set (autovacuum_enabled = false);
alter table live_runs set (autovacuum_enabled = false);
alter table webhook_deliveries set (autovacuum_enabled = false);
analyze;
"""
ROWS = f"""
set search_path = dpp;
set session_replication_role = replica;
create function run(n bigint) returns uuid immutable language sql
  return ('0199c82c-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
create function tenant(n bigint) returns text immutable language sql
  return 't' || lpad((n % 20)::text, 2, '0');
insert into tenants select tenant(n), 'unlimited', now() from generate_series(0, 19) n;
insert into tenant_turns select tenant_id from tenants;
insert into budgets
  select tenant_id, 1000000, 0, 1000000, 0, 300000, null, 0, current_date, 60000, 60000
    from tenants;
insert into allowances
  select 'key' || n, tenant(n), 1000000, case when n < 20 then 60000 else 0 end
    from generate_series(0, 19999) n;
insert into api_keys
  select 'key' || n, tenant(n), sha256('s'), '{{runs}}', now(), 'ops', null, null, null, 'key' || n
    from generate_series(0, 19999) n;
insert into webhooks
  select run(n), tenant(n), 'https://' || n || '.example/', '{{run.completed,budget.low}}', 's',
         null, null, now()
    from generate_series(0, 39) n;
insert into nodes values ('node', now());
insert into node_leases values ('{LEASE}', 'node', now() + interval '1 day');
insert into submissions
  select tenant(n), n / 20 + 1, run(n), 10, 0, now(), now() + interval '1 day', 60, n % 10,
         'echo', '1', '0/0/0', 'key' || n % 20, 't', 'order-' || n, 'f', 'inputs', sha256('inputs'),
         current_date, 'key' || n % 20, 30
    from generate_series(0, {ENDED + QUEUED + WORKING - 1}) n;
insert into endings
  select run(n), tenant(n), 100000 + n / 20, 'COMPLETED', 'settle', 1, 9, 1, 0, false,
         run(n), now(), now(), null, null, sha256('r'), 'r'
    from generate_series(0, {ENDED - 1}) n;
insert into live_runs (run_id, tenant_id, available_at, expires_at, max_cost, minimum_fee,
                       timebox_s, priority, pack_type, budget_day, allowance_id)
  select run(n), tenant(n), now() + interval '1 hour' * (n % 20 / 10),
         now() + interval '1 day', 10, 0, 60, n / 20 % 10, 'echo', current_date, 'key' || n % 20
    from generate_series({ENDED}, {ENDED + QUEUED + WORKING - 1}) n;
update live_runs
   set lease_id = case when run_id < run({ENDED + QUEUED + WORKING // 2})
                       then '{LEASE}'::uuid else '{GONE}'::uuid end,
       lease_epoch = 1, started_at = now(), deadline = now() + interval '1 minute'
 where run_id >= run({ENDED + QUEUED});
insert into transfers
  select tenant(n), 200001 + n / 20, 'deposit', 1, null, 'ref-' || n, null, 'ops', now()
    from generate_series(0, 19999) n;
insert into run_events
  select run(n), 1, 1, tenant(n), 'progress', 0.5, null, null, now()
    from generate_series(0, 49999) n;
insert into webhook_deliveries (tenant_id, webhook_id, event, run_id, created_at, status)
  select tenant(n), run(n % 40), 'run.completed', run(n), now(), 'delivered'
    from generate_series(0, {DELIVERED - 1}) n;
insert into webhook_deliveries
    (delivery_id, tenant_id, webhook_id, event, run_id, created_at, status, next_at)
  select run(n), tenant(n), run(n % 40), 'run.completed', run(n), now(), 'pending',
         now() + interval '1 hour' * (n % 40 / 20)
    from generate_series({DELIVERED}, {DELIVERED + PENDING - 1}) n;
"""  # noqa: S608  # constants of this file

FILL = STILL + ROWS

# Statistics that say that nothing is queued or pending: taken while all was at work and told.
STATES = ("empty", "full", "busy")
ALL_AT_WORK = """
update dpp.live_runs set lease_id = run_id, deadline = now(), started_at = now(), lease_epoch = 1
 where lease_id is null
"""
ALL_TOLD = """
update dpp.webhook_deliveries set status = 'delivered', delivered_at = next_at, next_at = null
 where status = 'pending'
"""
ALL_PENDING_AGAIN = """
update dpp.webhook_deliveries set status = 'pending', next_at = delivered_at, delivered_at = null
 where delivered_at is not null
"""
ALL_QUEUED_AGAIN = """
update dpp.live_runs set lease_id = null, deadline = null, started_at = null, lease_epoch = 0
 where lease_id = run_id
"""


@frozen
class Plan:
    """What a query did."""

    rows: int
    blocks: int
    nodes: tuple[dict[str, Any], ...]

    @property
    def read_whole(self) -> set[str]:
        """Return the big tables that were read from end to end."""
        return {
            node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"
        } & BIG


@pytest.fixture(scope="module")
def filled(cluster: Cluster) -> Iterator[dict[str, Database]]:
    """Give databases with the same rows, analysed at different times."""
    names = {state: f"dpp_plans_{state}" for state in STATES}

    async def fill() -> None:
        make = f"create database {{}} template {{}} owner {roles.OWNER}"
        await execute(cluster, "postgres", make.format(names["empty"], TEMPLATE))
        await execute(cluster, names["empty"], FILL)
        for state in ("full", "busy"):
            await execute(cluster, "postgres", make.format(names[state], names["empty"]))
        await execute(cluster, names["full"], "analyze")
        busy = (ALL_AT_WORK, ALL_TOLD, "analyze", ALL_QUEUED_AGAIN, ALL_PENDING_AGAIN)
        for statement in (*busy, "vacuum dpp.live_runs", "vacuum dpp.webhook_deliveries"):
            await execute(cluster, names["busy"], statement)

    async def drop() -> None:
        for name in names.values():
            await execute(cluster, "postgres", f"drop database {name} with (force)")

    asyncio.run(fill())
    yield {state: Database(cluster.host, name, cluster.host) for state, name in names.items()}
    asyncio.run(drop())


@pytest.fixture(params=STATES)
async def app(
    request: pytest.FixtureRequest, bridge: Bridge, filled: dict[str, Database]
) -> AsyncIterator[Session]:
    """Give a session of the node's role, in a transaction as the store begins them."""
    async with open_sessions(bridge, filled[request.param]) as sessions:
        session = await sessions.open("dpp_app")
        await session.execute(BEGIN)
        yield session


def run(n: int) -> UUID:
    """Return the id of run `n`."""
    return UUID(int=UUID("0199c82c-0000-7000-8000-000000000000").int + n)


def of(n: int) -> str:
    return TENANTS[n % 20]


async def explain(session: Session, name: str, **values: Any) -> Plan:
    """Run a query of the store's and return what it did; the transaction is never committed."""
    query = getattr(queries, name)
    assert set(values) == set(query.parameters), query.parameters
    asked = f"explain (analyze, buffers, costs off, timing off, format json) {query.sql}"
    told = await session.fetchval(asked, *[values[one] for one in query.parameters])
    (plan,) = json.loads(told)
    root = plan["Plan"]
    blocks = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
    return Plan(int(root["Actual Rows"]), blocks, tuple(nodes(root)))


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes that did something."""
    if node.get("Actual Loops") != 0:
        yield node
    for inner in node.get("Plans", ()):
        yield from nodes(inner)


LAST_ENDED = range(ENDED - PAGE, ENDED)
SOME_WORKING = range(ENDED + QUEUED, ENDED + QUEUED + PAGE)
CLAIM = {
    "lease_id": LEASE,
    "packs": ["echo"],
    "caps": [None] * 10,
    "aged_s": 60,
    "tenant_ids": TENANTS[:10],
    "lows": [None] * 100,
    "bytes": CLAIM_BYTES,
}
CLAIM_DELIVERIES: dict[str, Any] = {
    "busy_ids": [run(0)],
    "rooms": [10],
    "per_endpoint": 10,
    "busy_tenants": ["t19"],
    "tenant_rooms": [10],
    "per_tenant": 50,
    "after": None,
    "hold_s": 30.0,
    "attempts_max": 10,
}

# Of live rows only, and only where that is cheaper than a page of probes.
MAY_BE_READ_WHOLE = {
    name: {"live_runs"}
    for name in (
        *("orphaned_runs", "overdue_runs", "requeue_runs", "write_endings", "audit_live"),
        "count_live_runs",  # up to a bound
    )
}

LISTED: dict[str, Any] = {
    "tenant_id": "t03",
    "limit": 50,
    "looked_max": 50,
    **dict.fromkeys(("status", "pack_type", "created_after", "created_before")),
}
WINDOWS: dict[str, Any] = {"tenant_ids": ["t03"], "afters": [100], "untils": [200]}


def completions(run_ids: list[UUID]) -> dict[str, Any]:
    """Return what `write_endings` takes for working runs that all completed."""
    many = len(run_ids)
    return {
        "run_ids": run_ids,
        "lease_ids": [LEASE] * many,
        "lease_epochs": [1] * many,
        "seqs": [500_000 + n for n in range(many)],
        "statuses": ["COMPLETED"] * many,
        "kinds": ["settle"] * many,
        "costs": [1] * many,
        "ending_ids": run_ids,
        "error_codes": [None] * many,
        "error_details": [None] * many,
        "results": [b"r"] * many,
        "result_keys": [None] * many,
        "result_sha256s": [None] * many,
    }


# query, its values, rows it must return, pages it may touch
CASES: list[tuple[str, dict[str, Any], int | None, int]] = [
    (
        "hold_turns",
        {
            "lease_id": LEASE,
            "tenant_ids": TENANTS,
            "plans": ["basic", "unlimited"],
            "caps": [2, None],
            "weights": [1, 1],
        },
        20,
        80,
    ),
    ("queued_tenants", {"after": "", "limit": 100}, 20, 150),
    ("queued_tenants", {"after": "t17", "limit": 100}, 2, 30),
    ("claimed_under", {"lease_id": LEASE, "run_ids": [], "epochs": []}, 200, 2_000),
    ("fences_of_lease", {"lease_id": LEASE}, 200, 250),
    ("canceled_runs", {"run_ids": [run(n) for n in SOME_WORKING]}, 0, 500),
    ("orphaned_runs", {"limit": PAGE}, PAGE, 1_000),
    ("overdue_runs", {"limit": PAGE, "grace_s": 30.0}, 0, 1_000),
    ("unstarted_runs", {"limit": PAGE}, 0, 10),
    ("lock_budgets", {"tenant_ids": TENANTS}, 20, 80),
    ("lock_budgets_free", {"tenant_ids": TENANTS}, 20, 80),
    (
        "read_books",
        {
            "tenant_ids": [of(n) for n in range(500)],
            "idempotency_keys": [f"order-{n}" for n in range(500)],
            "key_ids": [f"key{n}" for n in range(20)],
            "plans": ["basic", "unlimited"],
            "queued_maxes": [10, 100],
            "notified_ids": TENANTS,
        },
        20,
        6_000,
    ),
    ("lock_runs", {"run_ids": [run(n) for n in SOME_WORKING]}, PAGE, 600),
    ("lock_runs_free", {"run_ids": [run(n) for n in SOME_WORKING]}, PAGE, 600),
    ("ending_of", {"run_ids": [run(n) for n in LAST_ENDED]}, PAGE, 500),
    ("get_run", {"tenant_id": of(5), "run_id": run(5)}, 1, 30),
    ("find_run_by_key", {"tenant_id": of(5), "idempotency_key": "order-5"}, 1, 30),
    ("find_run_by_key", {"tenant_id": of(5), "idempotency_key": "order-6"}, 0, 10),
    ("list_runs", LISTED | {"before": None}, 50, 800),
    ("list_runs", LISTED | {"before": run(ENDED // 2)}, 50, 800),
    (
        "watched_runs",
        {"tenant_ids": [of(n) for n in LAST_ENDED], "run_ids": [run(n) for n in LAST_ENDED]},
        PAGE,
        2_000,
    ),
    (
        "told_events",
        {
            "run_ids": [run(n) for n in range(PAGE)],
            "epochs": [1] * PAGE,
            "ns": [0] * PAGE,
            "page": 100,
        },
        PAGE,
        1_000,
    ),
    (
        "read_chronicle",
        {"tenant_id": of(5), "run_id": run(5), "epoch": 1, "n": 1, "page": 501},
        1,
        40,
    ),
    ("list_transfers", {"tenant_id": "t03", "before": 101_000, "limit": 50}, 50, 300),
    ("tenant_of_run", {"run_id": run(5)}, 1, 20),
    ("refundable_run", {"tenant_id": of(5), "run_id": run(5)}, 1, 20),
    ("get_budget", {"tenant_id": "t03"}, 1, 10),
    ("audit_budgets", {"after": "", "limit": 100}, 20, 50),
    ("audit_windows", WINDOWS | {"lasts": [200]}, 1, 700),
    ("audit_days", WINDOWS, 0, 20),
    ("audit_days", WINDOWS | {"afters": [100_000], "untils": [100_100]}, 1, 300),
    ("audit_counted", WINDOWS, 1, 700),
    ("audit_counted", WINDOWS | {"afters": [100_000], "untils": [100_100]}, 1, 1_000),
    (
        "audit_allowances",
        {"allowance_ids": ["key1", "key5000"], "tenant_ids": [], "most": 1},
        2,
        40,
    ),
    ("audit_live", {"tenant_ids": ["t03", "t04"]}, 2, 3_000),
    ("find_key", {"key_id": "key1234"}, 1, 10),
    (
        "list_keys",
        {"tenant_id": "t03", "before_at": None, "before_id": None, "ended": False, "limit": 50},
        50,
        800,
    ),
    ("count_keys", {"tenant_id": "t03"}, 1, 1_000),
    ("lock_keys", {"tenant_id": of(1234), "key_ids": ["key1234", "x"]}, 1, 20),
    # Not the key above: the server may still be ending the session that locked it.
    ("note_uses", {"key_ids": ["key1244", "key1245"], "ages_s": [1.0, 2.0]}, 2, 80),
    ("ask_cancel", {"tenant_id": of(ENDED), "run_id": run(ENDED)}, 1, 60),
    ("hand_back_lease", {"lease_id": GONE}, 1, 6_000),
    (
        "requeue_runs",
        {
            "run_ids": [run(n) for n in SOME_WORKING],
            "lease_ids": [LEASE] * PAGE,
            "lease_epochs": [1] * PAGE,
            "spents": [1] * PAGE,
        },
        PAGE,
        4_000,
    ),
    (
        "rewrite_budget",
        {
            "tenant_id": "t03",
            "was_there": True,
            "deposited": 3,
            "available": 1,
            "held": 1,
            "spent": 1,
            "seq": 7,
            "spend_day": date(2026, 3, 1),
            "day_spend": 1,
            "month_spend": 2,
        },
        1,
        40,
    ),
    # Of each of twenty endpoints a few; the other twenty are asked for, and have nothing due.
    ("claim_deliveries", CLAIM_DELIVERIES | {"limit": 200}, 200, 8_000),
    ("claim_deliveries", CLAIM_DELIVERIES | {"limit": 15}, 15, 800),
    ("claim_deliveries", CLAIM_DELIVERIES | {"after": run(19), "limit": 200}, 0, 200),
    # Who has no room costs a probe, and who is cut costs no more than who is not.
    (
        "claim_deliveries",
        CLAIM_DELIVERIES | {"busy_tenants": TENANTS[:19], "tenant_rooms": [0] * 19, "limit": 200},
        10,
        1_200,
    ),
    ("claim_deliveries", CLAIM_DELIVERIES | {"per_tenant": 3, "limit": 200}, 19 * 3 + 10, 4_000),
    ("due_delivery_age", {}, 1, 400),
    ("count_live_runs", {"counted_max": 10_001}, 2, 21_000),
    ("queue_age", {}, 1, 40),
    ("last_heartbeats", {"within_s": 86_400.0, "limit": 200}, 1, 10),
    ("balances", {"tenant_ids": ["t03", "t04", "x"]}, 2, 40),
    (
        "mark_deliveries",
        {
            "delivery_ids": [run(DELIVERED + n) for n in range(PAGE)],
            "attempts": [0] * PAGE,
            "delivered": [True] * PAGE,
            "statuses": [204] * PAGE,
            "errors": [None] * PAGE,
            "retries": [None] * PAGE,
        },
        PAGE,
        5_000,
    ),
    ("rewrite_allowance", {"tenant_id": "t03", "allowance_id": "key3", "used": 7}, 1, 40),
    (
        "write_endings",
        completions([run(n) for n in SOME_WORKING]),
        1,
        6_000,
    ),
]


@pytest.mark.parametrize(
    ("name", "values", "rows", "blocks"),
    CASES,
    ids=[f"{case[0]}-{n}" for n, case in enumerate(CASES)],
)
async def test_a_query_touches_what_it_needs_however_many_runs_have_ended(
    app: Session, name: str, values: dict[str, Any], rows: int | None, blocks: int
) -> None:
    plan = await explain(app, name, **values)

    assert plan.read_whole <= MAY_BE_READ_WHOLE.get(name, set())
    assert plan.rows == rows
    assert plan.blocks <= blocks


@pytest.mark.parametrize("share", [1, 3, 10, 100])
async def test_a_claim_takes_no_more_than_its_shares_and_reads_no_more_of_the_queue(
    app: Session, share: int
) -> None:
    """The planner may repeat a sub-select per row and claim thousands: a CTE keeps it from that."""
    plan = await explain(app, "claim_runs", shares=[share] * 10, **CLAIM)

    assert plan.rows == share * 10
    assert plan.read_whole == set()
    assert plan.blocks <= 600 + 60 * share * 10


async def test_a_claim_walks_over_no_run_that_is_not_due_yet(app: Session) -> None:
    waiting = CLAIM | {"tenant_ids": TENANTS[10:]}

    plan = await explain(app, "claim_runs", shares=[10] * 10, **waiting)

    assert plan.rows == 0
    assert plan.blocks <= 600


async def test_a_claim_of_deliveries_comes_upon_none_that_was_delivered(app: Session) -> None:
    plan = await explain(app, "claim_deliveries", **CLAIM_DELIVERIES, limit=200)

    ways = {
        node.get("Index Name", node["Node Type"])
        for node in plan.nodes
        if node.get("Relation Name") == "webhook_deliveries" and node["Node Type"] != "ModifyTable"
    }
    assert ways == {"webhook_deliveries_due", "webhook_deliveries_pk"}  # found, then updated by id


async def test_a_claim_of_deliveries_goes_by_endpoint_however_many_are_busy(app: Session) -> None:
    """Who is behind the last one claimed has its turn next: the planner may lose that order."""
    busy = {"busy_ids": [run(1_000 + n) for n in range(10_000)], "rooms": [0] * 10_000}
    query, values = queries.claim_deliveries, CLAIM_DELIVERIES | busy | {"limit": 15}

    rows = await app.fetch(query.sql, *[values[one] for one in query.parameters])

    assert sorted(row["webhook_id"] for row in rows) == [run(0)] * 10 + [run(1)] * 5


async def test_the_clock_is_inlined_so_that_an_index_on_a_time_is_used(app: Session) -> None:
    query = """
    explain (format json)
    select from live_runs where lease_id is null and lease_epoch = 0 and expires_at <= dpp.now()
    """

    (plan,) = json.loads(await app.fetchval(query))

    assert {node.get("Index Name") for node in nodes(plan["Plan"])} >= {"live_runs_unstarted"}
