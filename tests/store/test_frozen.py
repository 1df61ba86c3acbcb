"""Transactions of frozen clients: ended by whoever scans, so that their locks hold nobody up.

The worst is one that the server sends rows to and that does not read: no limit counts then.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the client is the driver's, and talks as a frozen one would
from typing import TYPE_CHECKING

import asyncpg
import pytest

from dpp.admission import Created
from dpp.store import leases
from tests.store.examples import submission
from tests.store.steps import make_tenant, submit

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database

LOCK = "select from dpp.budgets where tenant_id = 'acme' for no key update"
ROWS = "select repeat('x', 1000000) from generate_series(1, 300)"


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any transaction be too old."""
    monkeypatch.setattr(leases, "FROZEN_S", 0.0)


async def open_(database: Database, statement: str, user: str) -> asyncpg.Connection:
    """Begin, and ask one thing."""
    connection = await database.connect(user)
    await connection.execute("begin")
    await connection.execute(statement)
    return connection


async def until_gone(database: Database, connection: asyncpg.Connection) -> None:
    """Return once the server has no such session.

    Its own client is no witness: the goodbye may be half read when a call starts, and asyncpg then
    raises whatever its state makes of that.
    """
    watcher = await database.connect()
    there = "select exists (select from pg_stat_activity where pid = $1)"
    while await watcher.fetchval(there, connection.get_server_pid()):
        pass
    await watcher.close()
    connection.terminate()


async def lives_on(connection: asyncpg.Connection) -> None:
    """Take back what it did, which fails where its session is gone."""
    await connection.execute("rollback")
    await connection.close()


@pytest.mark.direct
async def test_a_client_that_does_not_read_holds_a_tenant_no_longer(
    store: PostgresStore, bridge: Bridge, database: Database
) -> None:
    await make_tenant(store)

    async def freeze() -> tuple[asyncpg.Connection, asyncio.Future[str]]:
        connection = await database.connect("dpp_app")
        await connection.execute("begin")
        await connection.execute(LOCK)
        connection._transport.pause_reading()  # type: ignore[attr-defined]
        task = asyncio.ensure_future(connection.execute(ROWS))
        return connection, task

    async def held() -> bool:
        watcher = await database.connect()
        try:
            return bool(
                await watcher.fetchval(
                    "select count(*) from pg_stat_activity where datname = current_database()"
                    " and wait_event = 'ClientWrite' and backend_xid is not null"
                )
            )
        finally:
            await watcher.close()

    async def thaw() -> None:
        connection.terminate()
        await asyncio.wait([task])
        assert task.exception() is not None

    connection, task = await bridge.run(freeze)
    while not await bridge.run(held):
        pass

    ended = await store.end_frozen()
    (admission,) = await submit(store, submission())

    assert ended == 1
    assert isinstance(admission, Created)
    assert not await bridge.run(held)
    await bridge.run(thaw)


@pytest.mark.direct
@pytest.mark.parametrize(
    ("statement", "user", "lives"),
    [
        (LOCK, "dpp_app", False),
        ("select count(*) from dpp.budgets", "dpp_app", True),  # an audit may take minutes
        (LOCK, "dpp_owner", True),
        ("select pg_advisory_xact_lock(7), pg_current_xact_id()", "dpp_app", True),
        ("create temp table t (n int)", "dpp_app", True),  # who changes a schema
    ],
)
async def test_only_transactions_of_nodes_that_hold_rows_are_ended(
    store: PostgresStore,
    bridge: Bridge,
    database: Database,
    statement: str,
    user: str,
    *,
    lives: bool,
) -> None:
    await make_tenant(store)
    connection = await bridge.run(lambda: open_(database, statement, user))

    ended = await store.end_frozen()

    assert ended == (not lives)
    await bridge.run(lambda: lives_on(connection) if lives else until_gone(database, connection))
