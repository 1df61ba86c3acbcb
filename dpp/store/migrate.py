"""Migrations: the schema, forward and back, and whether the database has the one we know.

The files in sql/migrations are plain SQL in pogo's format, applied through pogo-core, because it
drives asyncpg: one driver, whose statement splitting and transactions the tests already know. Its
neighbour yoyo-migrations is older and better known, but speaks psycopg; Alembic wants SQLAlchemy.

Each connection given here is a superuser's or the owner's, on `database.migrations_url`, and never
through a transaction pooler: the advisory lock that keeps migrations apart belongs to the session.
`known` and `status` only read, and may come over any connection. Runs in the bridge's thread.

NB, of the format: each file is one transaction unless it says `-- transaction: false`; a line that
begins with `--` vanishes even inside a function body or a literal (indented ones stay).
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from attrs import frozen
from pogo_core.util import migrate as pogo

from dpp.datadir import DataDirError
from dpp.logs import get_logger
from dpp.resources import sql_dir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from asyncpg import Connection

SCHEMA = "dpp"
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
    """The schema is the one this release knows."""


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


async def up(connection: Connection, *, directory: Path | None = None) -> list[str]:
    """Apply what is missing, each migration in its own transaction; return the ids applied."""
    directory = directory or _directory()
    async with _alone(connection):
        before = await _applied(connection)
        _refuse_unknown(before - _files(directory))
        await pogo.apply(connection, directory, schema_name=SCHEMA, logger=_pogo_log)
        await connection.execute(GRANT)
        return sorted(await _applied(connection) - before)


async def down(
    connection: Connection, count: int = 1, *, directory: Path | None = None
) -> list[str]:
    """Take back the last `count` migrations; return their ids."""
    assert count > 0
    directory = directory or _directory()
    async with _alone(connection):
        before = await _applied(connection)
        _refuse_unknown(before - _files(directory))
        await pogo.rollback(
            connection, directory, schema_name=SCHEMA, count=count, logger=_pogo_log
        )
        return sorted(before - await _applied(connection))


async def status(
    connection: Connection, *, directory: Path | None = None
) -> list[tuple[str, bool]]:
    """Return every migration that is known here or applied there, and whether it is applied."""
    applied = await _applied(connection)
    return [(name, name in applied) for name in sorted(applied | _files(directory or _directory()))]


async def known(connection: Connection, *, directory: Path | None = None) -> SchemaState:
    """Tell how the database's schema stands to the one this release was written for."""
    applied, files = await _applied(connection), _files(directory or _directory())
    if unknown := applied - files:
        return Ahead(tuple(sorted(unknown)))
    if missing := files - applied:
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
