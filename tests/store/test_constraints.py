"""What the schema itself refuses, whoever asks: the second wall behind the store's own guards."""

# ruff: noqa: S608 - every statement here is made of constants of this file
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from dpp.store.queries import queries
from tests.store.steps import make_tenant

if TYPE_CHECKING:
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions

FACTS = ("submissions", "endings", "transfers")
OWNERS = ("forget_store",)  # queries that an operator's command asks as the owner
RUN, OTHER_RUN = "'00000000-0000-7000-8000-00000000000a'", "'00000000-0000-7000-8000-00000000000b'"

# What stands while each of the statements below is tried.
STANDING = f"""
insert into tenants values ('acme', 'basic', now());
insert into tenant_turns values ('acme');
insert into budgets values ('acme', 10, 5, 3, 2, 4);
insert into allowances values ('key', 'acme', 10, 10);
insert into api_keys values ('key', 'acme', sha256('s'), '{{runs}}', now(), 'ops');
insert into nodes values ('node', now());
insert into node_leases values ({RUN}, 'node', now());
insert into submissions values ('acme', 1, {RUN}, 10, 1, now(), now(), 60, 5, 'echo', '1', '0/0/0',
  'key', 't', 'order-1', 'f', 'i', sha256('i'), '2026-01-01', 'key', 30);
insert into live_runs (run_id, tenant_id, available_at, expires_at, max_cost, minimum_fee,
  timebox_s, priority, pack_type, budget_day)
  values ({RUN}, 'acme', now(), now(), 10, 1, 60, 5, 'echo', '2026-01-01');
insert into endings values ({RUN}, 'acme', 2, 'COMPLETED', 'settle', 1, 9, 1, 0, false, {RUN},
  now(), now(), null, null, sha256('r'), 'r');
insert into transfers values ('acme', 3, 'deposit', 10, null, 'one', null, 'ops', now());
insert into usage_days values ('acme', '2026-01-01', 1, 1, 0, 1, 10);
insert into stores values ('results', gen_random_uuid());
insert into modes overriding system value values (1, {RUN}, 'drain', 'why', 'ops', now(), null);
insert into spent_keys values ('acme', 'order-0', {RUN}, 'f', now(), now());
insert into closings (tenant_id, seq, closed_at) values ('acme', 3, now());
insert into closed_days values ('acme', '2026-01-01', 1, 1, 0, 1, 10);
insert into closed_allowances values ('acme', 'key', 1);
insert into webhooks values ({RUN}, 'acme', 'https://a.example/', '{{run.completed}}', 's', null,
  null, now());
insert into webhook_deliveries (delivery_id, tenant_id, webhook_id, event, run_id, created_at,
  next_at) values ({RUN}, 'acme', {RUN}, 'run.completed', {RUN}, now(), now());
insert into run_events values ({RUN}, 1, 1, 'acme', 'progress', 0.5, null, null, now());
insert into findings (invariant, subject, evidence, opened_at) values ('i', 's', '{{}}', now());
"""


MODE = "insert into modes overriding system value"


def submitted(**values: str) -> str:
    """Return an insert that would do, but for these values."""
    return insert(
        "submissions",
        {
            "tenant_id": "'acme'",
            "seq": "9",
            "run_id": OTHER_RUN,
            "max_cost": "10",
            "minimum_fee": "1",
            "created_at": "now()",
            "expires_at": "now()",
            "timebox_s": "60",
            "priority": "5",
            "pack_type": "'echo'",
            "pack_version": "'1'",
            "policy": "'0/0/0'",
            "key_id": "'key'",
            "trace_id": "'t'",
            "idempotency_key": "'order-9'",
            "fingerprint": "'f'",
            "inputs": "'i'",
            "inputs_sha256": "sha256('i')",
            "budget_day": "'2026-01-01'",
            "result_days": "30",
        },
        values,
    )


def live(**values: str) -> str:
    return insert(
        "live_runs",
        {
            "run_id": OTHER_RUN,
            "tenant_id": "'acme'",
            "available_at": "now()",
            "expires_at": "now()",
            "max_cost": "10",
            "minimum_fee": "1",
            "timebox_s": "60",
            "priority": "5",
            "pack_type": "'echo'",
            "budget_day": "'2026-01-01'",
        },
        values,
    )


def ended(**values: str) -> str:
    return insert(
        "endings",
        {
            "run_id": OTHER_RUN,
            "tenant_id": "'acme'",
            "seq": "9",
            "status": "'CANCELED'",
            "kind": "'void'",
            "cost": "0",
            "returned": "10",
            "lease_epoch": "0",
            "attempts_spent": "0",
            "cancel_asked": "true",
            "ending_id": OTHER_RUN,
            "finished_at": "now()",
        },
        values,
    )


def transferred(**values: str) -> str:
    return insert(
        "transfers",
        {
            "tenant_id": "'acme'",
            "seq": "9",
            "kind": "'deposit'",
            "amount": "1",
            "reference": "'nine'",
            "operator": "'ops'",
            "created_at": "now()",
        },
        values,
    )


def endpoint(**values: str) -> str:
    return insert(
        "webhooks",
        {
            "webhook_id": OTHER_RUN,
            "tenant_id": "'acme'",
            "url": "'https://b.example/'",
            "events": "'{run.failed}'",
            "secret": "'s'",
            "created_at": "now()",
        },
        values,
    )


def delivery(**values: str) -> str:
    return insert(
        "webhook_deliveries",
        {
            "tenant_id": "'acme'",
            "webhook_id": OTHER_RUN,
            "event": "'run.completed'",
            "run_id": RUN,
            "created_at": "now()",
            "next_at": "now()",
        },
        values,
    )


def insert(table: str, usual: dict[str, str], values: dict[str, str]) -> str:
    row = usual | values
    return f"insert into {table} ({', '.join(row)}) values ({', '.join(row.values())})"


FOUND = """
insert into findings (invariant, subject, evidence, opened_at) values ('i', 's', '{}', now())
"""
COMPLETED = {"status": "'COMPLETED'", "kind": "'settle'"}
FAILED = {"status": "'FAILED'", "kind": "'settle'", "error_code": "'pack_error'"}
LOST = {"status": "'FAILED'", "kind": "'void'", "error_code": "'lost_lease'"}
HASH = {"result_sha256": "sha256('r')"}
LEASED = {"lease_id": RUN, "deadline": "now()", "started_at": "now()", "lease_epoch": "1"}

# constraint or unique index → statements that it alone refuses
REFUSED: dict[str, list[str]] = {
    "tenants_pk": ["insert into tenants values ('acme', 'pro', now())"],
    "tenants_name": [
        f"insert into tenants values ({name}, 'pro', now())"
        for name in (
            "''",
            "'-a'",
            "'_a'",
            "'A'",
            "'a b'",
            "'a/b'",
            "'é'",
            f"'{'a' * 64}'",
            "E'a\\n'",
        )
    ],
    "tenant_turns_pk": ["insert into tenant_turns values ('acme')"],
    "tenant_turns_tenant": [
        "insert into tenant_turns values ('nobody')",
        "delete from tenants where tenant_id = 'acme'",
    ],
    "budgets_pk": ["insert into budgets values ('acme', 0, 0, 0, 0, 0)"],
    "budgets_tenant": ["insert into budgets values ('nobody', 0, 0, 0, 0, 0)"],
    "budgets_parts": [
        "update budgets set available = -1, held = 9",
        "update budgets set held = -1, available = 9",
        "update budgets set spent = -1, available = 8",
        "update budgets set deposited = -1, available = -6",
    ],
    "budgets_conserve": [
        "update budgets set available = available + 1",
        "update budgets set held = held - 1",
        "update budgets set spent = spent + 1",
        "update budgets set deposited = deposited + 1",
    ],
    "budgets_spend": [
        "update budgets set day_spend = -1",
        "update budgets set month_spend = -1, day_spend = -1",
        "update budgets set day_spend = 1",
    ],
    "allowances_pk": ["insert into allowances values ('key', 'acme', 1)"],
    "allowances_tenant": ["insert into allowances values ('other', 'nobody', 1)"],
    "allowances_amount": [
        "insert into allowances values ('other', 'acme', 0)",
        "insert into allowances values ('other', 'acme', -1, -1)",
        "update allowances set used = 11",
        "update allowances set used = -1",
    ],
    "api_keys_allowance": ["update api_keys set allowance_id = 'nothing'"],
    "api_keys_pk": ["insert into api_keys values ('key', 'acme', sha256('s'), '{}', now(), 'ops')"],
    "api_keys_tenant": [
        "insert into api_keys values ('other', 'nobody', sha256('s'), '{}', now(), 'ops')"
    ],
    "api_keys_secret": [
        "insert into api_keys values ('other', 'acme', 'short', '{}', now(), 'ops')"
    ],
    "nodes_pk": ["insert into nodes values ('node', now())"],
    "nodes_drain": [
        "update nodes set drain_asked_at = now()",
        "update nodes set drain_asked_at = now(), drain_operator = 'ops'",
        "update nodes set drain_reason = 'why'",
    ],
    "modes_pk": [f"{MODE} values (1, {OTHER_RUN}, 'drain', 'why', 'ops', now(), null)"],
    "modes_change": [f"{MODE} values (2, {RUN}, 'drain', 'why', 'ops', now(), null)"],
    "modes_mode": [f"{MODE} values (2, {OTHER_RUN}, 'sleepy', 'why', 'ops', now(), null)"],
    "node_leases_pk": [f"insert into node_leases values ({RUN}, 'another', now())"],
    "submissions_run": [submitted(run_id=RUN)],
    "submissions_key": [submitted(idempotency_key="'order-1'")],
    "submissions_seq": [submitted(seq="1")],
    "submissions_amount": [
        submitted(max_cost="0", minimum_fee="0"),
        submitted(max_cost="-1", minimum_fee="-2"),
        submitted(minimum_fee="-1"),
        submitted(minimum_fee="11"),
    ],
    "live_runs_pk": [live(run_id=RUN)],
    "live_runs_leased": [
        live(**LEASED | {"deadline": "null"}),
        live(deadline="now()"),
    ],
    "live_runs_storing": [live(storing="true")],
    "live_runs_started": [
        live(**LEASED | {"started_at": "null"}),
        live(**LEASED | {"lease_epoch": "0"}),
        live(lease_epoch="1"),
    ],
    "live_runs_priority": [live(priority="10"), live(priority="-1")],
    "endings_run": [ended(run_id=RUN)],
    "endings_seq": [ended(seq="2")],
    "endings_status": [ended(status=status) for status in ("'QUEUED'", "'PROCESSING'", "'DONE'")],
    "endings_kind": [
        ended(kind="'settle'", status="'EXPIRED'"),
        ended(status="'EXPIRED'", kind="'void'", cost="1", returned="9"),
        ended(**COMPLETED | HASH | {"kind": "'void'"}),
        ended(kind="'refund'"),
    ],
    "endings_amount": [
        ended(**FAILED | {"cost": "-1", "returned": "11"}),
        ended(returned="-1"),
        ended(returned="0"),
    ],
    "endings_result": [
        ended(**COMPLETED),
        ended(**HASH),
        ended(**FAILED | HASH),
        ended(result_key="'k'"),
        ended(**COMPLETED | HASH | {"result": "'r'", "result_key": "'k'"}),
    ],
    "endings_error": [
        ended(status="'FAILED'"),
        ended(error_code="'pack_error'"),
        ended(**COMPLETED | HASH | {"error_code": "'pack_error'"}),
    ],
    "endings_payer": [
        ended(**FAILED | {"kind": "'void'"}),
        ended(**LOST | {"kind": "'settle'"}),
        ended(kind="'settle'"),
    ],
    "transfers_pk": [transferred(seq="3")],
    "transfers_reference": [transferred(reference="'one'")],
    "transfers_kind": [transferred(kind="'reserve'"), transferred(kind="'gift'")],
    "transfers_amount": [
        transferred(amount="0"),
        transferred(amount="-1"),
        transferred(kind="'withdraw'", amount="-1"),
        transferred(kind="'refund'", amount="-1", run_id=RUN, reason="'why'"),
        transferred(kind="'adjust'", amount="0", reason="'why'"),
    ],
    "transfers_subject": [
        transferred(run_id=RUN),
        transferred(kind="'refund'", reason="'why'"),
        transferred(kind="'adjust'", run_id=RUN, reason="'why'"),
    ],
    "transfers_reason": [
        transferred(kind="'refund'", run_id=RUN),
        transferred(kind="'refund'", run_id=RUN, reason="''"),
        transferred(kind="'adjust'"),
    ],
    "usage_days_pk": ["insert into usage_days values ('acme', '2026-01-01', 1, 1, 0, 1, 10)"],
    "run_events_pk": [
        f"insert into run_events values ({RUN}, 1, 1, 'acme', 'charge', null, null, 1, now())"
    ],
    "run_events_kind": [
        f"insert into run_events values ({RUN}, 1, 2, 'acme', 'log', null, null, null, now())"
    ],
    "findings_pk": [
        "insert into findings select finding_id, 'j', 's', null, '{}', now() from findings"
    ],
    "findings_open": [
        FOUND,
    ],
    "spent_keys_pk": [
        f"insert into spent_keys values ('acme', 'order-0', {OTHER_RUN}, 'f', now(), now())"
    ],
    "spent_keys_run": [
        f"insert into spent_keys values ('acme', 'order-9', {RUN}, 'f', now(), now())"
    ],
    "closings_pk": ["insert into closings (tenant_id, closed_at) values ('acme', now())"],
    "closings_tenant": ["insert into closings (tenant_id, closed_at) values ('nobody', now())"],
    "closings_gone": ["update closings set gone = 4", "update closings set gone = -1"],
    "closings_parts": ["update closings set spend_seq = 4"],
    "closed_days_pk": ["insert into closed_days values ('acme', '2026-01-01', 1, 1, 0, 1, 10)"],
    "closed_allowances_pk": ["insert into closed_allowances values ('acme', 'key', 1)"],
    "webhooks_pk": [endpoint(webhook_id=RUN)],
    "webhooks_tenant": [endpoint(tenant_id="'nobody'")],
    "webhooks_previous": [endpoint(previous_secret="'p'"), endpoint(previous_until="now()")],
    "webhooks_disabled": [endpoint(disabled_at="now()"), endpoint(disabled_reason="'gone'")],
    "webhook_deliveries_pk": [delivery(delivery_id=RUN)],
    "webhook_deliveries_once": [delivery(webhook_id=RUN)],
    "webhook_deliveries_status": [delivery(status="'sent'", next_at="null")],
    "webhook_deliveries_next": [
        delivery(next_at="null"),
        delivery(status="'delivered'"),
        delivery(status="'failed'"),
    ],
    "stores_pk": ["insert into stores values ('results', gen_random_uuid())"],
}
ALLOWED = [
    submitted(max_cost="1", minimum_fee="1"),
    submitted(minimum_fee="0"),
    live(**LEASED | {"storing": "true"}),
    live(started_at="now()", lease_epoch="3", attempts_spent="2"),
    ended(),
    ended(status="'EXPIRED'"),
    ended(kind="'settle'", cost="10", returned="0"),
    ended(**COMPLETED | HASH),
    ended(**COMPLETED | HASH | {"result_key": "'k'"}),
    ended(**FAILED),
    ended(**LOST),
    ended(**FAILED | {"error_code": "'resolved_by_operator'", "kind": "'void'"}),
    transferred(kind="'withdraw'"),
    transferred(kind="'adjust'", amount="-5", reason="'why'"),
    transferred(kind="'refund'", run_id=RUN, reason="'why'"),
    "insert into tenants values ('a-b_c9', 'pro', now())",
    "update budgets set day_spend = 1, month_spend = 1",
    "update budgets set month_spend = 1",
    "update allowances set used = 0",
    endpoint(previous_secret="'p'", previous_until="now()"),
    endpoint(disabled_at="now()", disabled_reason="'gone'", deleted_at="now()"),
    delivery(),
    delivery(webhook_id=RUN, event="'budget.low'", detail="'{}'"),
    delivery(status="'failed'", next_at="null"),
    f"update findings set resolved_at = now(); {FOUND}",
]


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: nothing here commits."""
    return emptied


@pytest.fixture
async def owner(admin: Session) -> Session:
    """Give a superuser in a transaction in which one row of everything stands."""
    await admin.execute("set search_path = dpp")
    await admin.execute("begin")
    await admin.execute(STANDING)
    return admin


async def tried(session: Session, statement: str) -> str:
    """Say what refuses this statement, and leave nothing of it."""
    await session.execute("savepoint s")
    try:
        await session.execute(statement)
    except asyncpg.PostgresError as error:
        return getattr(error, "constraint_name", None) or error.sqlstate or "?"
    finally:
        await session.execute("rollback to s")  # noqa: ASYNC102 - the session is the test's own
    return "allowed"


async def test_each_constraint_refuses_what_it_should(owner: Session) -> None:
    refused = {
        statement: await tried(owner, statement)
        for statements in REFUSED.values()
        for statement in statements
    }

    assert refused == {
        statement: name for name, statements in REFUSED.items() for statement in statements
    }


async def test_what_is_right_is_not_refused(owner: Session) -> None:
    assert {one: await tried(owner, one) for one in ALLOWED} == dict.fromkeys(ALLOWED, "allowed")


async def test_no_constraint_is_without_a_test(admin: Session) -> None:
    rows = await admin.fetch("""
        select conname as name from pg_constraint
         where connamespace = 'dpp'::regnamespace and contype <> 'n'
        union
        select indexrelid::regclass::text from pg_index join pg_class on pg_class.oid = indrelid
         where relnamespace = 'dpp'::regnamespace and indisunique
    """)

    assert {row["name"].removeprefix("dpp.") for row in rows} == set(REFUSED)


@pytest.mark.parametrize("table", FACTS)
async def test_a_fact_is_never_changed_nor_taken_away(owner: Session, table: str) -> None:
    """Not even by who owns the schema."""
    append_only = "23001"

    refused = {
        statement: await tried(owner, statement)
        for statement in (
            f"update {table} set seq = seq + 100",
            f"update {table} set tenant_id = tenant_id",
            f"delete from {table}",
            f"truncate {table}",
            f"truncate {table} cascade",
        )
    }

    assert refused == dict.fromkeys(refused, append_only)


# ── grants ────────────────────────────────────────────────────────────────────────────────────────

APP = {
    "allowances": {"select", "insert", "update"},
    "api_keys": {"select", "insert", "update"},
    "budgets": {"select", "insert", "update"},
    "closed_allowances": {"select", "insert", "update"},
    "closed_days": {"select", "insert", "update"},
    "closings": {"select"},  # and some columns to write: not those that count what has gone
    "endings": {"select", "insert"},
    "findings": {"select", "insert", "update"},
    "ledger": {"select"},
    "live_runs": {"select", "insert", "update", "delete"},
    "mode_in_force": {"select"},
    "modes": {"select", "insert"},
    "node_leases": {"select", "insert", "update", "delete"},
    "nodes": {"select", "insert", "update"},
    "run_events": {"select", "insert"},
    "runs": {"select"},
    "spent_keys": {"select"},
    "stores": {"select", "insert"},
    "submissions": {"select", "insert"},
    "tenant_turns": {"select", "insert", "update"},
    "tenants": {"select", "insert", "update"},
    "transfers": {"select", "insert"},
    "usage_days": {"select", "insert", "update"},
    "webhook_deliveries": {"select", "insert", "update"},
    "webhooks": {"select", "insert", "update"},
}
AUDIT = {name: {"select"} for name in APP} | {"webhooks": set()}  # it holds what signs
SEQUENCES: dict[str, set[str]] = {"modes_n_seq": set(), "node_leases_tenure_seq": set()}
GRANTED = """
select c.relname as name,
       array_agg(lower(p)) filter (where has_table_privilege($1, c.oid, p)) as granted
  from pg_class c,
       unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
         as p
 where c.relnamespace = 'dpp'::regnamespace and c.relkind in ('r', 'v', 'm', 'p', 'f', 'S')
 group by c.relname
"""


@pytest.mark.parametrize(
    ("role", "granted"),
    [
        ("dpp_app", APP | SEQUENCES),
        ("dpp_audit", AUDIT | SEQUENCES),
    ],
)
async def test_a_role_has_the_grants_that_it_needs_and_no_other(
    admin: Session, role: str, granted: dict[str, set[str]]
) -> None:
    rows = await admin.fetch(GRANTED, role)

    assert {row["name"]: set(row["granted"] or ()) for row in rows} == granted


@pytest.mark.parametrize("role", ["dpp_app", "dpp_audit"])
async def test_a_role_can_make_nothing(admin: Session, role: str) -> None:
    (row,) = await admin.fetch(
        """
        select rolsuper or rolcreatedb or rolcreaterole or rolbypassrls or rolreplication as mighty,
               has_schema_privilege(rolname, 'dpp', 'create') as makes,
               has_schema_privilege(rolname, 'public', 'create') as makes_public,
               has_schema_privilege(rolname, 'dpp', 'usage') as uses,
               exists (select from pg_auth_members where member = r.oid) as belongs
          from pg_roles r where rolname = $1
        """,
        role,
    )

    assert dict(row) == {
        "mighty": False,
        "makes": False,
        "makes_public": False,
        "uses": True,
        "belongs": False,
    }


@pytest.mark.parametrize("table", FACTS)
async def test_the_node_may_only_add_to_facts(sessions: Sessions, table: str) -> None:
    app = await sessions.open("dpp_app")
    await app.execute("begin")

    denied = {
        what: await tried(app, statement)
        for what, statement in {
            "update": f"update {table} set seq = 0",
            "delete": f"delete from {table}",
            "truncate": f"truncate {table}",
            "disable": f"alter table {table} disable trigger all",
            "replica": "set local session_replication_role = replica",
            "drop": f"drop table {table}",
        }.items()
    }

    await app.execute("rollback")
    assert denied == dict.fromkeys(denied, "42501")


async def test_what_has_gone_is_counted_by_the_pruning_alone(sessions: Sessions) -> None:
    app = await sessions.open("dpp_app")
    await app.execute("begin")

    denied = {
        statement: await tried(app, statement)
        for statement in (
            "update closings set gone = 1",
            "update closings set gone_spent = 1",
            "update closings set bodies_seq = 1",
            "insert into closings (tenant_id, closed_at, gone) values ('acme', now(), 1)",
            "delete from closings",
            "insert into spent_keys values ('acme', 'k', gen_random_uuid(), '', now(), now())",
            "set local dpp.pruning = 'on'; delete from submissions",
            "set local dpp.pruning = 'on'; update endings set result = null",
        )
    }

    await app.execute("rollback")
    assert denied == dict.fromkeys(denied, "42501")


async def test_what_is_not_over_leaves_by_no_way(owner: Session) -> None:
    """Live, or behind the closing entry, or young: not even where its owner asks."""
    refused = await tried(owner, "select dpp.prune('acme', 0, 0, 100)")
    await owner.execute("update closings set seq = 0, spend_seq = 0")
    behind = await owner.fetch("select * from dpp.prune('acme', 1, 1, 100)")
    await owner.execute("update closings set seq = 3")
    young = await owner.fetch("select * from dpp.prune('acme', 1, 1, 100)")
    await owner.fetch("select dpp.prune_bodies('acme', 100)")

    assert refused == "23001"
    assert [tuple(row) for row in (*behind, *young)] == [(0, 0)] * 2
    assert await owner.fetchval("select count(*) from submissions where inputs is null") == 0
    assert await tried(owner, "delete from submissions") == "23001"


async def test_no_clock_that_is_set_lets_anything_leave_early(owner: Session) -> None:
    """Whoever may ask may also set the clock of the tests: what leaves goes by the server's own."""
    await owner.execute(
        "set dpp.fake_now = '2100-01-01'; delete from live_runs;"
        "update webhook_deliveries set status = 'delivered', next_at = null"
    )

    (gone,) = await owner.fetch("select * from dpp.prune('acme', 1, 1, 100)")
    bodies = await owner.fetchval("select dpp.prune_bodies('acme', 100)")
    keys = await owner.fetchval("select dpp.forget_keys(1, 100)")

    assert (tuple(gone), bodies, keys) == ((0, 0), 0, 0)


async def test_the_auditor_writes_nothing(sessions: Sessions) -> None:
    audit = await sessions.open("dpp_audit")

    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await audit.execute("insert into nodes values ('n', now())")
    await audit.execute("set default_transaction_read_only = off")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await audit.execute("insert into nodes values ('n', now())")


@pytest.mark.parametrize(
    ("role", "limits"),
    [
        (
            "dpp_app",
            {
                "search_path": "dpp",
                "statement_timeout": "10s",
                "lock_timeout": "2s",
                "idle_in_transaction_session_timeout": "5s",
                "transaction_timeout": "15s",
                "default_transaction_read_only": "off",
                "client_connection_check_interval": "1s",
            },
        ),
        (
            "dpp_audit",
            {
                "client_connection_check_interval": "1s",
                "search_path": "dpp",
                "lock_timeout": "2s",
                "idle_in_transaction_session_timeout": "5s",
                "default_transaction_read_only": "on",
            },
        ),
    ],
)
async def test_a_role_has_its_limits(sessions: Sessions, role: str, limits: dict[str, str]) -> None:
    session = await sessions.open(role)

    assert {name: await session.fetchval(f"show {name}") for name in limits} == limits


async def test_each_query_may_be_run_by_the_node(sessions: Sessions) -> None:
    """Explaining a query checks its names, its types and the right to run it."""
    app, owner = await sessions.open("dpp_app"), await sessions.open("dpp_owner")
    refused: dict[str, str] = {}

    for name in queries.names():
        query = getattr(queries, name)
        try:
            await (owner if name in OWNERS else app).fetch(
                f"explain {query.sql}", *[None] * len(query.parameters)
            )
        except asyncpg.PostgresError as error:
            refused[name] = str(error)

    assert refused == {}


# ── the clock ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_clock_is_the_statements_and_not_the_transactions(admin: Session) -> None:
    await admin.execute("begin")

    first, begun = await times(admin)
    second, same = await times(admin)

    assert begun == same
    assert begun <= first < second


async def test_a_test_may_set_the_clock_for_a_transaction(admin: Session) -> None:
    fake = "2026-03-01 12:00:00+00"
    await admin.execute("begin")
    await admin.fetch("select set_config('dpp.fake_now', $1, true)", fake)
    inside = await admin.fetchval("select dpp.now() = $1::text::timestamptz", fake)
    await admin.execute("commit")

    assert inside is True
    assert await admin.fetchval("select current_setting('dpp.fake_now', true)") == ""
    assert await admin.fetchval("select dpp.now() = statement_timestamp()") is True


async def times(session: Session) -> tuple[Any, Any]:
    (row,) = await session.fetch("select dpp.now() as now, transaction_timestamp() as begun")
    return row["now"], row["begun"]


# ── what the store makes of it ────────────────────────────────────────────────────────────────────


async def test_every_tenant_has_a_turn_and_a_budget(store: PostgresStore, admin: Session) -> None:
    """A cap that a reload adds finds its lock."""
    await make_tenant(store)

    turns = await admin.fetch("select tenant_id from dpp.tenant_turns")
    budgets = await admin.fetch("select tenant_id from dpp.budgets")
    assert [row["tenant_id"] for row in turns] == ["acme"] == [row["tenant_id"] for row in budgets]
