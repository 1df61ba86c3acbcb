"""What `dpp doctor` says of a database: each thing put wrong on a real PostgreSQL, alone."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest
from attrs import evolve

from dpp.diagnosis import fleet, machine, server, upkeep
from dpp.resources import sql_dir
from dpp.store import examining
from dpp.store.connections import Address
from dpp.store.examining import Asked, Examined
from dpp.store.poolers import Pooler
from dpp.version import VERSION
from tests.debian import debian, directory, needs_debian
from tests.doctor.looks import by_name, not_well
from tests.pgbouncer import needs_pgbouncer, pgbouncer

if TYPE_CHECKING:
    from dpp.diagnosis.checks import Check
    from dpp.store.bridge import Bridge
    from tests.conftest import Database

pytestmark = pytest.mark.direct


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - it is what is compared


def asked(host: str, database: str, **changes: Any) -> Asked:
    """Return how doctor comes to a database as if it were embedded, but for its clock."""

    def address(user: str) -> Address:
        return Address({"host": host, "user": user, "database": database})

    one = Asked(
        app=address("dpp_app"),
        owner=address("dpp_owner"),
        watcher=address("postgres"),
        embedded=False,
        pooler="auto",
        production=False,
        allow_unsynced=False,
        now=now,
    )
    return evolve(one, **changes)


def verdicts(found: Examined, *, production: bool = False) -> list[Check]:
    return [
        *server.diagnose(found.server, production=production),
        machine.clock(found.clock),
        *fleet.schema(found.schema),
        *fleet.nodes(found.living, ours=VERSION),
        fleet.plans_in_use(found.plans, {"basic"}),
        *upkeep.diagnose(found.upkeep),
    ]


Look = Callable[..., Awaitable[list["Check"]]]
Sql = Callable[..., Awaitable[None]]


@pytest.fixture
def look(bridge: Bridge, database: Database) -> Look:
    """Look at the test's database."""

    async def look(*, production: bool = False, **changes: Any) -> list[Check]:
        ask = asked(database.host, database.name, production=production, **changes)
        found = await bridge.run(partial(examining.examine, ask))
        return verdicts(found, production=production)

    return look


@pytest.fixture
def sql(bridge: Bridge, database: Database) -> Sql:
    """Run statements in the test's database as superuser."""

    async def run(*statements: str) -> None:
        async def all_of_them() -> None:
            connection = await database.connect()
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        await bridge.run(all_of_them)

    return run


def living(node: str, version: str, digest: str) -> tuple[str, str]:
    """Return what makes a node live, for an hour."""
    told = f"values ('{node}', now(), '{version}')"
    lease = f"values ('{uuid4()}', '{node}', now() + interval '1 hour', '{digest}')"
    return (
        f"insert into dpp.nodes (node_id, last_heartbeat, version) {told}",
        f"insert into dpp.node_leases (lease_id, node_id, lease_until, digest) {lease}",
    )


@asynccontextmanager
async def transaction(bridge: Bridge, database: Database, *more: str) -> AsyncIterator[None]:
    """Hold a transaction open."""

    async def begin() -> Any:
        connection = await database.connect()
        for statement in ("begin", *more):
            await connection.execute(statement)
        return connection

    connection = await bridge.run(begin)
    try:
        yield
    finally:
        await bridge.run(connection.close)  # noqa: ASYNC102 - a test, whose end nobody cancels


async def test_a_migrated_database_is_well(look: Look) -> None:
    checks = await look()

    assert not_well(checks) == {}
    assert {
        *("database", "pooler", "server", "primary", "role limits", "role rights", "clock"),
        *("schema", "schema drift", "node versions", "plans", "packs", "plans in use"),
        *("open transactions", "prepared transactions", "replication slots", "vacuum"),
    } == by_name(checks).keys()


@pytest.mark.parametrize(
    ("statement", "name", "said", "fix"),
    [
        ("revoke insert on dpp.endings from dpp_app", "role rights", "insert on endings", "grant"),
        ("grant delete on dpp.endings to dpp_app", "role rights", "delete on endings", "dpp_app"),
        (
            "alter role dpp_app in database {name} set search_path = public",
            "role rights",
            "does not look for tables",
            "search_path = dpp",
        ),
        (
            "alter role dpp_app in database {name} set lock_timeout = 0",
            "role limits",
            "lock_timeout=0ms",
            "dpp migrate roles",
        ),
        ("create table dpp.extra (n int)", "schema drift", "extra", "dpp migrate check"),
        ("delete from public._pogo_migration", "schema", "not made yet", "dpp migrate up"),
        (
            "update public._pogo_migration set migration_id = '9999_of_tomorrow'",
            "schema",
            "9999_of_tomorrow",
            "dpp migrate down",
        ),
        (
            "alter table dpp.live_runs set (autovacuum_enabled = off)",
            "vacuum",
            "off for live_runs",
            "reset (autovacuum_enabled)",
        ),
    ],
)
async def test_what_was_put_wrong_is_named_alone(
    look: Look, sql: Sql, database: Database, statement: str, name: str, said: str, fix: str
) -> None:
    await sql(statement.format(name=database.name))

    checks = await look(production=True, allow_unsynced=True)

    assert not_well(checks).get(name) is False, by_name(checks)[name]
    assert said in by_name(checks)[name].found
    assert fix in by_name(checks)[name].fix
    # A grant is part of the catalog; nothing else of these is seen twice.
    wrong = {one for one, ok in not_well(checks).items() if ok is False}
    assert wrong - {"schema drift"} <= {name}


async def test_a_role_that_may_too_much_is_let_pass_outside_production(
    look: Look, sql: Sql, database: Database
) -> None:
    superuser = Address({"host": database.host, "user": "postgres", "database": database.name})
    await sql(f"alter role postgres in database {database.name} set search_path = dpp")

    dev = by_name(await look(app=superuser))["role rights"]
    production = by_name(await look(app=superuser, production=True))["role rights"]

    assert (dev.ok, production.ok) == (True, False)
    assert "is a superuser" in production.found


async def test_a_server_that_loses_commits_is_wrong_in_production(look: Look) -> None:
    """The tests' own does not sync."""
    found = by_name(await look(production=True))["server"]

    assert found.ok is False
    assert "fsync=off" in found.found
    assert "database.allow_unsynced" in found.fix


async def test_a_pooler_that_is_none_is_told(look: Look) -> None:
    found = by_name(await look(pooler="transaction"))["pooler"]

    assert found.ok is False
    assert '"direct"' in found.fix


@needs_pgbouncer
async def test_a_pooler_that_knows_no_transactions_is_told_and_the_rest_looked_at(
    look: Look, database: Database
) -> None:
    with pgbouncer(database.host, "statement") as pooler:
        keywords = {"host": pooler.host, "user": "dpp_app", "database": database.name}
        found = by_name(await look(app=Address(keywords)))

    assert found["database"].ok is False
    assert "statement pooling" in found["database"].found
    assert "pool_mode" in (found["database"].fix or "")


@needs_pgbouncer
async def test_a_pooler_that_stands_between_is_found(look: Look, database: Database) -> None:
    with pgbouncer(database.host, Pooler.TRANSACTION, pool_size=2) as between:
        keywords = {"host": between.host, "user": "dpp_app", "database": database.name}
        app = Address(keywords, Pooler.TRANSACTION)
        well, wrong = [by_name(await look(app=app, pooler=one)) for one in ("auto", "direct")]

    assert "pooler" in well, well["database"]
    assert "transaction mode" in well["pooler"].found
    assert (well["pooler"].ok, wrong["pooler"].ok) == (True, False)
    assert '"transaction"' in wrong["pooler"].fix
    assert well["role rights"].ok is True


async def test_a_clock_that_is_off_is_found_and_one_that_is_not_is_well(look: Look) -> None:
    ahead = by_name(await look(now=lambda: now() + timedelta(seconds=10)))["clock"]
    behind = by_name(await look(now=lambda: now() - timedelta(seconds=10)))["clock"]

    assert (ahead.ok, behind.ok) == (False, False)
    assert ahead.found.startswith("+")
    assert behind.found.startswith("-")


async def test_an_answer_that_took_too_long_says_nothing_of_the_clock(look: Look) -> None:
    ticks = iter([now(), now() + timedelta(seconds=4)])

    found = by_name(await look(now=lambda: next(ticks)))["clock"]

    assert found.ok is None
    assert "too long" in found.found


async def test_nodes_of_another_version_and_with_other_plans_are_named(
    look: Look, sql: Sql
) -> None:
    await sql(*living("a", VERSION, "1/7"), *living("b", "0.4.9", "2/7"))

    checks = by_name(await look())

    assert not_well(checks.values()) == {"node versions": False, "plans": False}
    assert "b is 0.4.9" in checks["node versions"].found
    assert "a 1, b 2" in checks["plans"].found


async def test_a_plan_that_tenants_have_and_nobody_configures_is_named(
    look: Look, sql: Sql
) -> None:
    await sql(
        "insert into dpp.tenants (tenant_id, plan, created_at)"
        " values ('a', 'basic', now()), ('b', 'gone', now()), ('c', 'gone', now())"
    )

    checks = await look()

    assert not_well(checks) == {"plans in use": False}
    assert by_name(checks)["plans in use"].found.endswith(": gone: 2 tenants")


async def test_packs_that_differ_are_named(look: Look, sql: Sql) -> None:
    await sql(*living("a", VERSION, "1/7"), *living("b", VERSION, "1/8"))

    assert not_well(await look()) == {"packs": False}


async def test_what_takes_away_and_is_not_applied_is_named_with_whom_it_waits_for(
    look: Look, sql: Sql, tmp_path: Path
) -> None:
    shutil.copytree(sql_dir() / "migrations", tmp_path / "migrations")
    (tmp_path / "migrations" / "9000_gone_post.sql").write_text("-- migrate: apply\nselect 1;\n")

    alone = by_name(await look(migrations=tmp_path / "migrations"))["schema"]
    await sql(*living("old", "0.4.9", ""))
    beside = by_name(await look(migrations=tmp_path / "migrations"))["schema"]

    assert (alone.ok, beside.ok) == (False, False)
    assert "9000_gone_post is not applied yet" in alone.found
    assert "waits for old (0.4.9)" in beside.found


async def test_a_transaction_that_stays_open_is_named(
    look: Look, bridge: Bridge, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with transaction(bridge, database, "set application_name = 'a-forgotten-psql'"):
        young = by_name(await look())["open transactions"]
        monkeypatch.setattr(upkeep, "OPEN_MAX_S", 0.0)
        old = by_name(await look())["open transactions"]
        monkeypatch.setattr(upkeep, "OPEN_MAX_S", 300.0)
        monkeypatch.setattr(upkeep, "IDLE_MAX_S", 0.0)
        idle = by_name(await look())["open transactions"]
    after = by_name(await look())["open transactions"]

    assert [one.ok for one in (young, old, idle, after)] == [True, False, False, True]
    assert "of postgres (a-forgotten-psql) is idle in transaction" in old.found
    assert "idle in transaction" in idle.found
    assert "pg_terminate_backend" in old.fix


async def test_sessions_that_are_hidden_are_no_proof_of_anything(
    look: Look, bridge: Bridge, database: Database
) -> None:
    async with transaction(bridge, database):
        found = by_name(await look(watcher=database.address()))["open transactions"]

    assert found.ok is None
    assert "1 sessions of other roles are hidden" in found.found
    assert "pg_read_all_stats" in found.fix


async def test_a_slot_that_holds_wal_back_is_named(
    look: Look, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = f"dpp_doctor_{uuid4().hex[:8]}"
    await sql(f"select pg_create_physical_replication_slot('{slot}', true)")
    try:
        little = by_name(await look())["replication slots"]
        await sql("select pg_logical_emit_message(true, 'doctor', repeat('x', 100000))")
        monkeypatch.setattr(upkeep, "SLOT_BYTES_MAX", 50_000)
        much = by_name(await look())["replication slots"]
    finally:
        await sql(f"select pg_drop_replication_slot('{slot}')")  # noqa: ASYNC102 - as above

    assert little.ok is True
    assert much.ok is False
    assert f"{slot} (not in use) holds" in much.found
    assert slot in much.fix


async def test_a_receiver_of_wal_that_is_gone_is_named(look: Look, sql: Sql) -> None:
    await sql(f"select pg_create_physical_replication_slot('{upkeep.RECEIVER}', true)")
    try:
        found = by_name(await look())["replication slots"]
    finally:
        await sql(f"select pg_drop_replication_slot('{upkeep.RECEIVER}')")  # noqa: ASYNC102 - as above

    assert found.ok is False
    assert "systemctl start dpp-wal" in found.fix


async def test_dead_rows_and_old_rows_are_named(
    look: Look, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sql(
        "alter table dpp.tenant_turns set (autovacuum_vacuum_threshold = 1000000)",
        "insert into dpp.tenants (tenant_id, plan, created_at) select 't' || n, 'basic', now()"
        " from generate_series(1, 50) n",
        "insert into dpp.tenant_turns select 't' || n from generate_series(1, 50) n",
        "delete from dpp.tenant_turns",
        "select pg_stat_force_next_flush()",
    )
    monkeypatch.setattr(upkeep, "DEAD_MAX", 49)
    dead = by_name(await look())["vacuum"]
    monkeypatch.setattr(upkeep, "DEAD_MAX", 1_000_000)
    monkeypatch.setattr(upkeep, "AGE_MAX", 0)
    old = by_name(await look())["vacuum"]

    assert (dead.ok, old.ok) == (False, False)
    assert "tenant_turns has 50 dead rows" in dead.found
    assert "transactions old" in old.found


async def test_a_server_that_does_not_answer_is_wrong_and_the_rest_could_not_be_looked_at(
    look: Look,
) -> None:
    nobody = Address({"dsn": "postgresql://dpp_app@127.0.0.1:9/dpp"})

    checks = await look(app=nobody)

    assert by_name(checks)["database"].ok is False
    assert "database.url" in by_name(checks)["database"].fix
    assert {one.ok for one in checks if one.name != "database"} == {None}


async def test_a_login_that_is_refused_is_told(look: Look, database: Database) -> None:
    stranger = Address({"host": database.host, "user": "nobody_here", "database": database.name})

    found = by_name(await look(app=stranger))["database"]

    assert found.ok is False
    assert "nobody_here" in found.found


@needs_debian
async def test_of_an_older_server_and_its_standby(bridge: Bridge) -> None:
    async def prepare(host: str) -> None:
        connection = await asyncpg.connect(host=host, user="postgres", database="postgres")
        await connection.execute("create schema dpp")
        await connection.execute("create table dpp.stores (name text)")
        await connection.execute("begin")
        await connection.execute("prepare transaction 'forgotten'")
        await connection.close()

    with debian() as primary, directory() as standby, contextlib.ExitStack() as stack:
        primary.start("max_prepared_transactions=5", "wal_level=replica")
        await bridge.run(partial(prepare, primary.host))
        standby.follow(primary)
        standby.start("max_prepared_transactions=5")
        stack.callback(primary.stop)
        asks = []
        for one in (primary, standby):
            root = Address({"host": one.host, "user": "postgres", "database": "postgres"})
            asks.append(asked(one.host, "postgres", app=root, owner=root, watcher=root))
        found = [await bridge.run(partial(examining.examine, ask)) for ask in asks]
    seen, followed = [by_name(verdicts(one)) for one in found]

    assert "without transaction_timeout" in seen["server"].found
    assert (seen["primary"].ok, followed["primary"].ok) == (True, False)
    assert "promote" in followed["primary"].fix
    # Of a few seconds it is nobody's fault yet.
    assert seen["prepared transactions"].ok is True
    (held,) = found[0].upkeep.prepared
    assert (held.name, held.owner) == ("forgotten", "postgres")
    late = upkeep.diagnose(evolve(found[0].upkeep, prepared=[evolve(held, age_s=301.0)]))
    assert by_name(late)["prepared transactions"].ok is False
