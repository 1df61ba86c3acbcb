"""Migrations: the schema, forward and back, and whether the database has the one we know.

The files in sql/migrations are plain SQL in pogo's format, applied through pogo-core, because it
drives asyncpg: one driver, whose statement splitting and transactions the tests already know. Its
neighbour yoyo-migrations is older and better known, but speaks psycopg; Alembic wants SQLAlchemy.

Names end with what a migration does. One that ends with `_pre` only adds: the release before goes
on on it, so it is applied while old nodes run. One that ends with `_post` takes away what the new
release needs no more: it waits until no node of another version lives. So two versions run side by
side, and each starts on a schema that lacks its own `_post`, or has a later release's `_pre`.

Each connection given here is a superuser's or the owner's, on `database.migrations_url`, and never
through a transaction pooler: the advisory lock that keeps migrations apart belongs to the session.
`known` and `status` only read, and may come over any connection. Runs in the bridge's thread.

NB, of the format: each file is one transaction unless it says `-- transaction: false`; a line that
begins with `--` vanishes even inside a function body or a literal (indented ones stay).
"""

from __future__ import annotations

import logging
import shutil
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
from attrs import frozen
from pogo_core.error import BadMigrationError
from pogo_core.util import migrate as pogo

from dpp.datadir import DataDirError
from dpp.logs import get_logger
from dpp.resources import sql_dir
from dpp.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from collections.abc import Set as AbstractSet

    from asyncpg import Connection

SCHEMA = "dpp"
PRE, POST = "_pre", "_post"  # while nodes of the release before live; when none does
OTHERS = """
select n.node_id || ' (' || coalesce(n.version, 'a version not told yet') || ')' as node
  from dpp.node_leases l join dpp.nodes n on n.node_id = l.node_id
 where l.lease_until > dpp.now() and n.version is distinct from $1
 order by 1
"""
LOCK = 0x647070  # "dpp", read as a number; two migrations of one database meet at it
LOCK_WAIT_MS = 300_000  # as long as another node's migration of a large table may take
# The node and the auditor read which migrations there are; pogo's table is the migrations' owner's.
GRANT = """
do $$
declare reader text;
begin
  foreach reader in array array['dpp_app', 'dpp_audit'] loop
    if exists (select from pg_roles where rolname = reader) then
      execute format('grant select on public._pogo_migration to %I', reader);
    end if;
  end loop;
end $$
"""

log = get_logger(__name__)


class _OurLog(logging.Handler):
    """What pogo says while it works, as lines of DPP's log."""

    def emit(self, record: logging.LogRecord) -> None:
        log.info("migration", step=record.getMessage())


_pogo_log = logging.getLogger("pogo")
_pogo_log.addHandler(_OurLog())
_pogo_log.propagate = False


@frozen
class Current:
    """The schema is the one this release knows, or one on which it works beside another."""


@frozen
class Empty:
    """No migration was ever applied."""


@frozen
class Behind:
    """The database lacks migrations of this release."""

    missing: tuple[str, ...]


@frozen
class Ahead:
    """The database has migrations of a later release."""

    unknown: tuple[str, ...]


SchemaState: TypeAlias = Current | Empty | Behind | Ahead


@contextmanager
def _refused_as_the_server_says() -> Iterator[None]:
    """Let it be seen that a migration lacked rights: that is the operator's, and no bug of it."""
    try:
        yield
    except BadMigrationError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise error.__cause__ from None
        raise


async def up(connection: Connection, *, directory: Path | None = None) -> list[str]:
    """Apply what is missing, each migration in its own transaction; return the ids applied.

    What takes away is left where nodes of other versions live: see `waiting`.
    """
    directory = directory or _directory()
    async with _alone(connection):
        before = await _applied(connection)
        _refuse_unknown(before - _files(directory))
        held = set((await waiting(connection, directory=directory)).migrations)
        with _without(directory, held) as chosen, _refused_as_the_server_says():
            await pogo.apply(connection, chosen, schema_name=SCHEMA, logger=_pogo_log)
        await connection.execute(GRANT)
        return sorted(await _applied(connection) - before)


@frozen
class Waiting:
    """Migrations that take away, and the nodes of other versions that they wait for."""

    migrations: tuple[str, ...]
    nodes: tuple[str, ...]


async def waiting(connection: Connection, *, directory: Path | None = None) -> Waiting:
    """Return what may not be applied yet; raises where what adds comes after it."""
    pending = sorted(_files(directory or _directory()) - await _applied(connection))
    held = [name for name in pending if name.endswith(POST)]
    if not held or not await connection.fetchval("select to_regclass('dpp.node_leases')"):
        return Waiting((), ())
    nodes = tuple(row["node"] for row in await connection.fetch(OTHERS, VERSION))
    if not nodes:
        return Waiting((), ())
    if pending[-1] not in held or pending[pending.index(held[0]) :] != held:
        raise DataDirError(
            f"{held[0]} waits for nodes of other versions: {', '.join(nodes)}.",
            did="DPP changed nothing: what this release adds comes after it.",
            remedy="Upgrade those nodes, or stop them, and run `dpp migrate up` again.",
        )
    return Waiting(tuple(held), nodes)


@contextmanager
def _without(directory: Path, names: AbstractSet[str]) -> Iterator[Path]:
    """Give a directory of all migrations but these."""
    if not names:
        yield directory
        return
    with TemporaryDirectory() as chosen:
        for path in directory.glob("*.sql"):
            if path.stem not in names:
                shutil.copy(path, chosen)
        yield Path(chosen)


async def down(
    connection: Connection,
    count: int = 1,
    *,
    to: str | None = None,
    directory: Path | None = None,
) -> list[str]:
    """Take back the last `count` migrations, or all that came after `to`; return their ids."""
    assert count > 0
    directory = directory or _directory()
    async with _alone(connection):
        before = await _applied(connection)
        _refuse_unknown(before - _files(directory))
        if to is not None:
            count = len(_after(to, before))
        if not count:
            return []
        with _refused_as_the_server_says():
            await pogo.rollback(
                connection, directory, schema_name=SCHEMA, count=count, logger=_pogo_log
            )
        return sorted(before - await _applied(connection))


def _after(last: str, applied: AbstractSet[str]) -> list[str]:
    """Return what is applied and comes after this one, which must be there."""
    if last not in applied:
        raise DataDirError(
            f"The migration {last} is not applied, so nothing can go back to it.",
            did="DPP changed nothing.",
            remedy="Name one that `dpp migrate status` says is applied.",
        )
    return [name for name in applied if name > last]


async def status(
    connection: Connection, *, directory: Path | None = None
) -> list[tuple[str, bool]]:
    """Return every migration that is known here or applied there, and whether it is applied."""
    applied = await _applied(connection)
    return [(name, name in applied) for name in sorted(applied | _files(directory or _directory()))]


async def known(connection: Connection, *, directory: Path | None = None) -> SchemaState:
    """Tell how the database's schema stands to the one this release was written for."""
    applied, files = await _applied(connection), _files(directory or _directory())
    if unknown := {name for name in applied - files if not name.endswith(PRE)}:
        return Ahead(tuple(sorted(unknown)))
    if missing := {name for name in files - applied if not name.endswith(POST)}:
        return Behind(tuple(sorted(missing))) if applied else Empty()
    return Current()


async def check(connection: Connection, *, expected: Path | None = None) -> list[str]:
    """Compare the live catalog with the one that the migrations make: no lines, no difference.

    `-` stands before what is missing, `+` before what is there and should not be. Grants to roles
    that this server does not have are not missed: an external database may be used by one user.
    """
    file = expected or sql_dir() / "catalog.txt"
    roles = {row["rolname"] for row in await connection.fetch("select rolname from pg_roles")}
    wanted = {line for line in file.read_text("utf-8").splitlines() if _concerns(line, roles)}
    live = set(await catalog(connection))
    return [f"- {line}" for line in sorted(wanted - live)] + [
        f"+ {line}" for line in sorted(live - wanted)
    ]


async def catalog(connection: Connection) -> list[str]:
    """Return what schema dpp consists of, a line each, in order."""
    query = (sql_dir() / "catalog.sql").read_text("utf-8")
    async with connection.transaction(readonly=True):
        if not await connection.fetchval("select to_regnamespace($1)", SCHEMA):
            return []
        await connection.execute("set local search_path = ''")
        return [row["text"] for row in await connection.fetch(query)]


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[None]:
    """Hold the lock of migrations. Names without a schema are those of dpp meanwhile."""
    await connection.execute(
        f"set search_path = {SCHEMA}; set statement_timeout = 0; set lock_timeout = {LOCK_WAIT_MS}"
    )
    try:
        await connection.execute("select pg_advisory_lock($1)", LOCK)
        await connection.execute("reset lock_timeout")
        try:
            yield
        finally:
            if not connection.is_closed():  # its end has let go of the lock
                unlock = "select pg_advisory_unlock($1)"
                await connection.execute(unlock, LOCK)  # noqa: ASYNC102 - nobody cancels it here
    finally:
        if not connection.is_closed():
            await connection.execute("reset all")  # noqa: ASYNC102 - nobody cancels it here


async def _applied(connection: Connection) -> set[str]:
    if not await connection.fetchval("select to_regclass('public._pogo_migration')"):
        return set()
    query = "select migration_id from public._pogo_migration where schema_name = $1"
    return {row["migration_id"] for row in await connection.fetch(query, SCHEMA)}


def _directory() -> Path:
    return sql_dir() / "migrations"


def _files(directory: Path) -> set[str]:
    return {path.stem for path in directory.glob("*.sql")}


def _refuse_unknown(unknown: set[str]) -> None:
    """Ours would go under theirs: neither forward nor back is safe."""
    if unknown:
        raise DataDirError(
            f"The database has migrations of a later release: {', '.join(sorted(unknown))}.",
            did="DPP changed nothing.",
            remedy="Use that release, or let it take them back first (`dpp migrate down`).",
        )


def _concerns(line: str, roles: set[str]) -> bool:
    """Tell whether a line of the expected catalog can be true on a server with these roles."""
    grantee = line.partition(" to ")[2].partition(" ")[0] if line.startswith("grant ") else "public"
    return grantee in roles | {"public"}
