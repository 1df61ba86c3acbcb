"""The roles of a database, their limits, and the database itself.

All of it is asked again at each start of the embedded cluster and changes nothing that is as it
should be; `ensure_roles` works as any superuser of any PostgreSQL. Grants on tables are the
migrations'. Runs in the bridge's thread.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from dpp.datadir import DataDirError
from dpp.resources import sql_dir

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Connection

SUPERUSER, OWNER, DATABASE = "postgres", "dpp_owner", "dpp"

# For the whole server, then for the roles and databases that differ from it.
DURABILITY = """
select name, setting, 'the server' as whose from pg_settings
 where name in ('fsync', 'full_page_writes', 'synchronous_commit')
union all
select split_part(item, '=', 1), split_part(item, '=', 2),
       concat_ws(' in ', (select rolname from pg_roles where oid = setrole),
                         (select datname from pg_database where oid = setdatabase))
  from pg_db_role_setting, unnest(setconfig) as item
 where item like 'synchronous_commit=%'
order by whose, name
"""
DURABLE = frozenset({"on", "remote_apply"})


async def prepare(host: str) -> None:
    """Bring the embedded cluster to where migrations can start: durable, roles and database."""
    async with _superuser(host, "postgres") as server:
        await assert_durable(server)
    await make_database(host)


async def make_database(host: str) -> None:
    """Make roles and database on the server whose socket lies in `host`, where they are missing."""
    async with _superuser(host, "postgres") as server:
        await ensure_roles(server)
        await ensure_database(server)
    async with _superuser(host, DATABASE) as database:
        await database.execute(_sql("grants"))


async def assert_durable(connection: Connection) -> None:
    """Raise if an acknowledged commit could be lost by a crash."""
    rows = await connection.fetch(DURABILITY)
    lax = [row for row in rows if row["setting"] not in DURABLE]
    if lax:
        settings = ", ".join(f"{row['name']}={row['setting']} for {row['whose']}" for row in lax)
        raise DataDirError(
            f"PostgreSQL would acknowledge commits that a crash can lose: {settings}.",
            did="DPP did not start on it: money moves in these commits.",
            remedy="Take the setting back (`alter role … reset`, `alter database … reset`).",
        )


async def ensure_roles(superuser: Connection) -> None:
    """Make dpp_owner, dpp_app and dpp_audit with their limits, where they are not so already."""
    for statement in await missing(superuser):
        await superuser.execute(statement)


async def missing(connection: Connection, what: str = "roles") -> list[str]:
    """Return the statements that `roles` lack, or `rights` in the connection's database, if any."""
    return [row["statement"] for row in await connection.fetch(_sql(what))]


async def ensure_database(superuser: Connection) -> None:
    """Make the database, where there is none. It cannot be made within a transaction."""
    if not await superuser.fetchval("select 1 from pg_database where datname = $1", DATABASE):
        await superuser.execute(f"create database {DATABASE} owner {OWNER}")


@asynccontextmanager
async def _superuser(host: str, database: str) -> AsyncIterator[Connection]:
    connection: Connection = await asyncpg.connect(host=host, user=SUPERUSER, database=database)
    try:
        yield connection
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


def _sql(name: str) -> str:
    return (sql_dir() / "roles" / f"{name}.sql").read_text("utf-8")
