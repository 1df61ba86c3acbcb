"""Migrations on real PostgreSQL: forward, back, side by side, and what `check` can see."""

from __future__ import annotations

import asyncio  # noqa: TID251 - asyncpg, driven without the product's bridge
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import sqlparse
from pogo_core.error import BadMigrationError
from pogo_core.migration import strip_comments

from dpp import accounts
from dpp.accounts import identity
from dpp.datadir import DataDirError
from dpp.resources import sql_dir
from dpp.store import migrate, roles
from dpp.store.migrate import Ahead, Behind, Current, Empty
from dpp.store.place import Place, SchemaRefused, assert_known
from dpp.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from dpp.store.bridge import Bridge
    from tests.cluster import Cluster
    from tests.conftest import Database

OLD_POSTGRES = Path("/usr/lib/postgresql/15/bin")  # Debian 12's, if it is there
IDS = sorted(path.stem for path in (sql_dir() / "migrations").glob("*.sql"))

ONE = """\
-- one
-- depends:

-- migrate: apply
create schema dpp;
create table t (n int);

-- migrate: rollback
drop schema dpp cascade;
"""
TWO = """\
-- two
-- depends: one

-- migrate: apply
alter table t add column m int;

-- migrate: rollback
alter table t drop column m;
"""
BROKEN = """\
-- three
-- depends: two

-- migrate: apply
create table u (n int);
create table t (n int);

-- migrate: rollback
drop table u;
"""
FORMAT = """\
-- one
-- depends:

-- migrate: apply
create schema dpp;
create table t (n int default 1, note text default ';--', check (n > 0)); -- a remark; cut
-- a remark at the margin;
/* and; another */
create function f() returns trigger language plpgsql as $$
begin
  -- a remark inside; with a semicolon
  if new.n is null then
    raise exception 'n; is null';
  end if;
  case when new.n > 1 then new.note = 'more;'; else new.note = 'one;'; end case;
  return new;
end;
$$;
create trigger t_note before insert on t for each row execute function f();
do $body$
declare
  name text := 'g';
begin
  execute format(
    $q$create function %I() returns int language sql begin atomic select 1; end$q$, name);
end
$body$;

-- migrate: rollback
drop schema dpp cascade;
"""

LAX = """
create or replace function refuse_change() returns trigger language plpgsql as
'begin return new; end'
"""

_numbers = itertools.count(1)


@asynccontextmanager
async def connected(host: str, database: str, user: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(host=host, user=user, database=database)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Callable[..., Any]]:
    """Make an empty database; give how to run a coroutine with a connection to it."""
    name = f"dpp_migrate_{next(_numbers)}"

    async def server(statement: str) -> None:
        async with connected(cluster.host, "postgres", cluster.user) as connection:
            await connection.execute(statement)

    async def within(
        action: Callable[[asyncpg.Connection[Any]], Coroutine[Any, Any, Any]], user: str
    ) -> Any:
        async with connected(cluster.host, name, user) as connection:
            return await action(connection)

    def run(
        action: Callable[[asyncpg.Connection[Any]], Coroutine[Any, Any, Any]],
        user: str = roles.OWNER,
    ) -> Any:
        return asyncio.run(within(action, user))

    asyncio.run(server(f"create database {name} owner {roles.OWNER}"))
    yield run
    asyncio.run(server(f"drop database {name} with (force)"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(tmp_path, one=ONE, two=TWO)


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        (directory / f"{name}.sql").write_text(text)
    return directory


def test_forward_back_and_forward_again_make_the_same_schema(empty: Callable[..., Any]) -> None:
    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        return [
            await migrate.known(connection),
            await migrate.up(connection),
            await migrate.known(connection),
            await migrate.check(connection),
            await migrate.status(connection),
            await migrate.up(connection),
            sorted(await migrate.down(connection, len(IDS))),
            await migrate.known(connection),
            await migrate.catalog(connection),
            await migrate.up(connection),
            await migrate.check(connection),
        ]

    assert empty(story) == [
        Empty(),
        IDS,
        Current(),
        [],
        [(name, True) for name in IDS],
        [],
        IDS,
        Empty(),
        [],
        IDS,
        [],
    ]


def test_a_schema_behind_or_ahead_is_told_by_name(
    empty: Callable[..., Any], directory: Path
) -> None:
    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        await migrate.up(connection, directory=directory)
        await migrate.down(connection, directory=directory)
        behind = await migrate.known(connection, directory=directory)
        await migrate.up(connection, directory=directory)
        (directory / "two.sql").unlink()
        ahead = await migrate.known(connection, directory=directory)
        for verb in (migrate.up, migrate.down):
            with pytest.raises(DataDirError, match="later release: two"):
                await verb(connection, directory=directory)
        return [behind, ahead, await migrate.status(connection, directory=directory)]

    assert empty(story) == [Behind(("two",)), Ahead(("two",)), [("one", True), ("two", True)]]


NODES = """\
-- nodes
-- depends:

-- migrate: apply
create schema dpp;
create table dpp.nodes (node_id text, version text);
create table dpp.node_leases (node_id text, lease_until timestamptz);
create function dpp.now() returns timestamptz language sql return statement_timestamp();

-- migrate: rollback
drop schema dpp cascade;
"""
BACK = "\n-- migrate: rollback\nselect 1;\n"
ADDS = "-- adds\n-- depends: {}\n\n-- migrate: apply\ncreate table dpp.{} (n int);\n" + BACK
TAKES = "-- takes\n-- depends: {}\n\n-- migrate: apply\ndrop table dpp.{};\n" + BACK
LIVES = """
insert into dpp.nodes values ('old', $1), ('gone', '0.1');
insert into dpp.node_leases values ('old', now() + interval '1 hour'),
  ('gone', now() - interval '1 hour');
"""


async def node_of(connection: asyncpg.Connection[Any], version: str | None) -> None:
    """Let a node of this version live, beside one of an older version that is gone."""
    text = "null" if version is None else f"'{version}'"
    await connection.execute(LIVES.replace("$1", text))


@pytest.mark.parametrize("version", ["0.4.9", None])
def test_what_takes_away_waits_for_nodes_of_other_versions(
    empty: Callable[..., Any], tmp_path: Path, version: str | None
) -> None:
    """The old release goes on and starts on what was added; the new one before that is gone."""
    old, new = tmp_path / "old", tmp_path / "new"
    for directory in (old, new):
        directory.mkdir()
        write(directory, **{"0001_a_pre": NODES})
    write(new, **{"0002_b_pre": ADDS.format("0001_a_pre", "t")})
    write(new, **{"0003_b_post": TAKES.format("0002_b_pre", "t")})

    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        await migrate.up(connection, directory=old)
        await node_of(connection, version)
        added = await migrate.up(connection, directory=new)
        waits = await migrate.waiting(connection, directory=new)
        beside = [await migrate.known(connection, directory=one) for one in (old, new)]
        await connection.execute("delete from dpp.node_leases where node_id = 'old'")
        taken = await migrate.up(connection, directory=new)
        after = [await migrate.known(connection, directory=one) for one in (old, new)]
        return [added, waits.migrations, len(waits.nodes), beside, taken, after]

    assert empty(story) == [
        ["0002_b_pre"],
        ("0003_b_post",),
        1,
        [Current(), Current()],
        ["0003_b_post"],
        [Ahead(("0003_b_post",)), Current()],
    ]


def test_nodes_of_this_version_are_no_reason_to_wait(
    empty: Callable[..., Any], tmp_path: Path
) -> None:
    write(tmp_path, **{"0001_a_pre": NODES})

    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        await migrate.up(connection, directory=tmp_path)
        await node_of(connection, VERSION)
        write(tmp_path, **{"0002_b_pre": ADDS.format("0001_a_pre", "t")})
        write(tmp_path, **{"0003_b_post": TAKES.format("0002_b_pre", "t")})
        return await migrate.up(connection, directory=tmp_path)

    assert empty(story) == ["0002_b_pre", "0003_b_post"]


def test_a_release_is_not_begun_before_the_last_one_is_finished(
    empty: Callable[..., Any], tmp_path: Path
) -> None:
    write(tmp_path, **{"0001_a_pre": NODES})

    async def story(connection: asyncpg.Connection[Any]) -> list[str]:
        await migrate.up(connection, directory=tmp_path)
        await node_of(connection, "0.4.9")
        write(tmp_path, **{"0002_b_pre": ADDS.format("0001_a_pre", "t")})
        write(tmp_path, **{"0003_b_post": TAKES.format("0002_b_pre", "t")})
        write(tmp_path, **{"0004_c_pre": ADDS.format("0003_b_post", "u")})
        with pytest.raises(DataDirError, match=r"0003_b_post waits for nodes .*old \(0.4.9\)"):
            await migrate.up(connection, directory=tmp_path)
        return sorted(name for name, done in await migrate.status(connection) if done)

    assert empty(story) == ["0001_a_pre"]


def test_down_takes_back_the_last_ones_first(empty: Callable[..., Any], directory: Path) -> None:
    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        await migrate.up(connection, directory=directory)
        return [
            await migrate.down(connection, directory=directory),
            await migrate.catalog(connection),
            await migrate.down(connection, directory=directory),
            await migrate.catalog(connection),
        ]

    last, left, first, nothing = empty(story)

    assert (last, first, nothing) == (["two"], ["one"], [])
    assert "column t.n integer" in left
    assert not any(line.startswith("column t.m") for line in left)


def test_down_goes_back_to_what_another_release_knows(
    empty: Callable[..., Any], directory: Path
) -> None:
    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        await migrate.up(connection, directory=directory)
        with pytest.raises(DataDirError, match="three is not applied"):
            await migrate.down(connection, to="three", directory=directory)
        there = await migrate.down(connection, to="two", directory=directory)
        back = await migrate.down(connection, to="one", directory=directory)
        return [there, back, await migrate.status(connection, directory=directory)]

    assert empty(story) == [[], ["two"], [("one", True), ("two", False)]]


def test_a_migration_that_fails_leaves_nothing_of_itself(
    empty: Callable[..., Any], directory: Path
) -> None:
    write(directory, three=BROKEN)

    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        with pytest.raises(BadMigrationError, match="three"):
            await migrate.up(connection, directory=directory)
        return [
            await migrate.status(connection, directory=directory),
            await connection.fetchval("select to_regclass('dpp.u')"),
            await connection.fetchval("show search_path"),
            await connection.fetchval("select count(*) from pg_locks where locktype = 'advisory'"),
        ]

    assert empty(story) == [
        [("one", True), ("three", False), ("two", True)],
        None,
        '"$user", public',
        0,
    ]


def test_the_second_of_two_at_once_waits_and_finds_nothing_to_do(
    empty: Callable[..., Any], directory: Path
) -> None:
    async def apply(host: str, name: str) -> list[str]:
        async with connected(host, name, roles.OWNER) as connection:
            return await migrate.up(connection, directory=directory)

    async def story(watcher: asyncpg.Connection[Any]) -> list[list[str]]:
        host, name = await watcher.fetchrow(WHERE) or ("", "")
        await watcher.execute("select pg_advisory_lock($1)", migrate.LOCK)
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(apply(host, name)) for _ in range(2)]
            while await watcher.fetchval(WAITING) < 2:
                pass
            await watcher.execute("select pg_advisory_unlock($1)", migrate.LOCK)
        return sorted(task.result() for task in both)

    assert empty(story, "postgres") == [[], ["one", "two"]]


def test_one_that_is_killed_half_way_is_made_whole_by_the_next_two_at_once(
    empty: Callable[..., Any], directory: Path
) -> None:
    """What a killed process leaves is a connection that is cut: the server ends what it was at."""
    write(directory, three=SLOW)

    async def apply(host: str, name: str) -> list[str]:
        async with connected(host, name, roles.OWNER) as connection:
            return await migrate.up(connection, directory=directory)

    async def story(watcher: asyncpg.Connection[Any]) -> list[Any]:
        host, name = await watcher.fetchrow(WHERE) or ("", "")
        killed = await asyncpg.connect(host=host, database=name, user=roles.OWNER)
        first = asyncio.create_task(migrate.up(killed, directory=directory))
        while await watcher.fetchval(SLEEPS) is None:
            pass
        killed.terminate()
        (cut,) = await asyncio.gather(first, return_exceptions=True)
        while await watcher.fetchval(SLEEPS) is not None:  # it looks for its client once a second
            pass
        left = await watcher.fetchval("select to_regclass('dpp.u')")
        write(directory, three=SLOW.replace("3600", "0"))
        both = await asyncio.gather(apply(host, name), apply(host, name))
        made = await watcher.fetchval("select to_regclass('dpp.u')::text")
        return [isinstance(cut, Exception), left, sorted(both), made]

    assert empty(story, "postgres") == [True, None, [[], ["three"]], "dpp.u"]


SLOW = """\
-- three
-- depends: two

-- migrate: apply
create table dpp.u (n int);
select pg_sleep(3600);
alter table dpp.u add column m int;

-- migrate: rollback
drop table dpp.u;
"""
SLEEPS = """
select pid from pg_stat_activity
 where datname = current_database() and wait_event = 'PgSleep'
"""
WHERE = "select trim('\"' from current_setting('unix_socket_directories')), current_database()"
WAITING = """
select count(*) from pg_locks join pg_database on pg_database.oid = database
 where locktype = 'advisory' and not granted and datname = current_database()
"""


def test_bodies_literals_and_remarks_survive_being_split(
    empty: Callable[..., Any], tmp_path: Path
) -> None:
    write(tmp_path, one=FORMAT)

    async def story(connection: asyncpg.Connection[Any]) -> list[Any]:
        await migrate.up(connection, directory=tmp_path)
        await connection.execute("insert into dpp.t (n) values (1), (2)")
        return [
            await connection.fetchval("select string_agg(note, ' ' order by n) from dpp.t"),
            await connection.fetchval("select dpp.g()"),
            "-- a remark inside; with a semicolon"
            in await connection.fetchval("select prosrc from pg_proc where proname = 'f'"),
        ]

    assert empty(story) == ["one; more;", 1, True]


@pytest.mark.parametrize("name", IDS)
def test_no_part_of_a_migration_is_lost_in_the_splitting(name: str) -> None:
    text = (sql_dir() / "migrations" / f"{name}.sql").read_text("utf-8")
    for part in re.split(r"^-- migrate: \w+$", text, flags=re.MULTILINE)[1:]:
        sent = [strip_comments(statement) for statement in sqlparse.split(part.strip())]

        assert "".join("".join(sent).split()) == "".join(strip_comments(part).split())


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("alter table budgets drop constraint budgets_conserve", "- constraint budgets.budgets_co"),
        ("drop index live_runs_queue", "- index CREATE INDEX live_runs_queue"),
        ("alter table endings disable trigger endings_append_only", "+ trigger CREATE TRIGGER e"),
        ("alter table budgets alter column window_count set default 1", "+ column budgets.window"),
        ("alter table budgets alter column seq drop not null", "+ column budgets.seq bigint"),
        ("alter table live_runs set (fillfactor = 90)", "+ relation live_runs kind r"),
        ("grant update on transfers to dpp_app", "+ grant UPDATE on relation transfers to dpp_app"),
        ("grant select (plan) on tenants to public", "+ grant SELECT on column tenants.plan to pu"),
        ("revoke select on budgets from dpp_audit", "- grant SELECT on relation budgets to dpp_a"),
        ("create table extra ()", "+ relation extra kind r persistence p"),
        ("create or replace view ledger as " + "LEDGER", "+ view ledger md5"),
        ("alter function dpp.now() volatile", "+ function now() kind f returns timestamp"),
        (LAX, "+ function refuse_change() kind f"),
        ("alter table budgets enable row level security", "+ relation budgets kind r persistence"),
    ],
)  # fmt: skip
def test_check_names_what_differs(database: Database, change: str, difference: str) -> None:
    async def story() -> tuple[list[str], list[str]]:
        async with connected(database.host, database.name, roles.OWNER) as connection:
            before = await migrate.check(connection)
            await connection.execute("set search_path = dpp")
            view = await connection.fetchval("select pg_get_viewdef('ledger'::regclass)")
            await connection.execute(change.replace("LEDGER", f"select * from ({view[:-1]}) x"))  # noqa: S608
            return before, await migrate.check(connection)

    before, after = asyncio.run(story())

    assert before == []
    assert any(line.startswith(difference) for line in after), after
    assert len(after) <= 2


def test_grants_to_roles_that_a_server_lacks_are_not_missed(tmp_path: Path) -> None:
    known = {"dpp_owner", "dpp_app"}

    kept = [migrate._concerns(f"grant SELECT on relation t to {who}", known) for who in
            ("dpp_app", "dpp_audit", "public", "dpp_audit with grant option")]  # fmt: skip

    assert kept == [True, False, True, False]


def test_the_node_may_ask_and_not_change(database: Database) -> None:
    async def story() -> list[Any]:
        states = []
        for user in ("dpp_app", "dpp_audit"):
            async with connected(database.host, database.name, user) as connection:
                states.append(await migrate.known(connection))
                with pytest.raises(asyncpg.PostgresError):
                    await migrate.down(connection)
        return states

    assert asyncio.run(story()) == [Current(), Current()]


def test_what_is_committed_is_what_the_migrations_make(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, root / "scripts" / "generate-schema", tmp_path], check=True, cwd=root
    )

    for name in ("schema.sql", "catalog.txt"):
        committed = (root / "sql" / name).read_text("utf-8").splitlines()
        assert (tmp_path / name).read_text("utf-8").splitlines() == committed


@contextmanager
def old_server() -> Iterator[str]:
    """Run Debian's PostgreSQL 15, for the time of a test."""
    node, child = accounts.by_uid(os.geteuid()), accounts.choose_child(os.geteuid(), None)
    assert node is not None
    assert child is not None
    base = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    os.chown(base, child.uid, child.gid)

    def run(program: str, *arguments: str) -> None:
        command = [OLD_POSTGRES / program, "-D", base / "data", *arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        subprocess.run(command, check=True, cwd="/", **quiet, **identity(child))  # type: ignore[call-overload]

    try:
        run("initdb", "-U", "postgres", "--auth=trust", "--no-locale", "-E", "UTF8", "-N")
        options = f"-c listen_addresses= -c fsync=off -k {base}"
        run("pg_ctl", "-o", options, "-l", str(base / "log"), "-w", "start")
        try:
            yield str(base)
        finally:
            run("pg_ctl", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(base)


@pytest.mark.skipif(not OLD_POSTGRES.is_dir(), reason="needs PostgreSQL 15: postgresql-15")
def test_postgresql_15_has_the_same_catalog_and_the_limits_it_knows() -> None:
    async def story(host: str) -> list[Any]:
        await roles.make_database(host)
        await roles.make_database(host)
        async with connected(host, roles.DATABASE, roles.OWNER) as owner:
            applied = await migrate.up(owner), await migrate.check(owner)
        async with connected(host, roles.DATABASE, "dpp_app") as app:
            return [*applied, await app.fetchval("show lock_timeout"), await migrate.known(app)]

    with old_server() as host:
        assert asyncio.run(story(host)) == [IDS, [], "2s", Current()]


async def test_a_role_that_looks_in_another_schema_is_told_how_it_finds_the_tables(
    database: Database, bridge: Bridge
) -> None:
    """As an owner that nobody prepared: what it migrates it does not find."""
    one, role = database.address("postgres"), "postgres"
    nowhere = Place(one, one, one)

    with pytest.raises(SchemaRefused) as refused:
        await bridge.run(partial(assert_known, nowhere))

    assert role in refused.value.what
    assert f"alter role {role} set search_path = dpp" in refused.value.remedy
    ours = Place(database.address(), one, database.address("dpp_audit"))
    await bridge.run(partial(assert_known, ours))
