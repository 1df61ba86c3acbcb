"""What the store's tests share: sessions of their own, and a judge after each test."""

from __future__ import annotations

import asyncio  # noqa: TID251 - synchronous fixtures talk to PostgreSQL before trio runs
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from dpp.store import roles
from dpp.store.connections import Address
from dpp.store.desk import Sizes
from dpp.store.postgres import open_postgres
from tests.conftest import LIMITS, POOLER, TEMPLATE, Database
from tests.oracle.money import Memory, violations
from tests.pgbouncer import reconnect
from tests.store.examples import STORE_PLANS
from tests.store.sessions import Sessions, open_sessions
from tests.store.wire import Wire, open_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.cluster import Cluster
    from tests.store.sessions import Session


SHARED = "dpp_shared"
# Without triggers, which refuse it, and foreign keys, which want an order.
EMPTY = """
set session_replication_role = replica;
alter database dpp_shared reset all;
alter role dpp_app in database dpp_shared reset all;
create or replace function dpp.server_now() returns timestamptz
  language sql stable parallel safe return statement_timestamp();
do $$
declare name text;
begin
  for name in select tablename from pg_tables where schemaname = 'dpp' loop
    execute format('delete from dpp.%I', name);
  end loop;
end $$
"""


async def execute(cluster: Cluster, database: str, statement: str) -> None:
    """Run one statement as superuser."""
    connection = await asyncpg.connect(host=cluster.host, user=cluster.user, database=database)
    await connection.execute(statement)
    await connection.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a connection that a failed test left open be no error: uvloop hangs where it is one."""
    left = pytest.mark.filterwarnings("ignore:unclosed resource:ResourceWarning")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(left)


@pytest.fixture(scope="session")
def shared(cluster: Cluster, entrance: str) -> Database:
    """Give a database for tests that only need it empty: making one takes longer than they do."""
    make_shared(cluster)
    return Database(cluster.host, SHARED, entrance)


def make_shared(cluster: Cluster) -> None:
    """Make it on this server."""
    make = f"create database {SHARED} template {TEMPLATE} owner {roles.OWNER}"
    asyncio.run(execute(cluster, "postgres", make))


@pytest.fixture
def emptied(cluster: Cluster, shared: Database) -> Iterator[Database]:
    """Give the shared database, and empty it after the test."""
    yield shared
    asyncio.run(execute(cluster, SHARED, EMPTY))
    if shared.entrance != shared.host:  # its server connections have not heard of what was reset
        asyncio.run(reconnect(shared.entrance, SHARED))


@pytest.fixture
async def sessions(bridge: Bridge, database: Database) -> AsyncIterator[Sessions]:
    """Open sessions on the test's database."""
    async with open_sessions(bridge, database) as one:
        yield one


@pytest.fixture
async def admin(sessions: Sessions) -> Session:
    """Give a superuser's session."""
    return await sessions.open("postgres")


@pytest.fixture
async def judged(store: PostgresStore, admin: Session) -> AsyncIterator[PostgresStore]:
    """Give the store, and let both judges look at its database when the test is over."""
    memory = Memory()
    store.plans = STORE_PLANS
    yield store
    audit = await store.audit()
    found = await admin.run(lambda connection: violations(connection, memory))
    assert [verdict for verdict in audit.verdicts if verdict.offenders] == []
    assert found == []


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    """Put a wire before the test's server."""
    async with open_wire(database.entrance) as one:
        yield one
    assert one.cancel_requests == 0


@pytest.fixture
def wired_address(database: Database, wire: Wire) -> Address:
    """Tell how to connect through the wire."""
    keywords = {"host": wire.host, "user": "dpp_app", "database": database.name}
    return Address(keywords, POOLER)


@pytest.fixture
async def wired(
    bridge: Bridge, database: Database, wired_address: Address, judged: PostgresStore
) -> AsyncIterator[PostgresStore]:
    """Open a store that talks through the wire; `judged` is its twin with a wire that holds."""
    auditor = database.address("dpp_audit")
    async with open_postgres(bridge, wired_address, auditor, Sizes.of(8), LIMITS) as one:
        one.plans = STORE_PLANS
        yield one
