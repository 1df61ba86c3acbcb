"""Faults of a pooler in transaction mode: money moves once, or nothing does and it is said."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import trio
from attrs import evolve

from dpp.admission import Created
from dpp.faults import StoreBroken, StoreUnavailable
from dpp.store.connections import Address
from dpp.store.desk import Share, Sizes
from dpp.store.poolers import Pooler
from dpp.store.postgres import PostgresStore, open_postgres
from tests.conftest import LIMITS, Database
from tests.pgbouncer import Bouncer, explanation, needs_pgbouncer, pgbouncer, reconnect
from tests.store.examples import DOLLAR, STORE_PLANS, submission
from tests.store.sessions import SOON_S, start
from tests.store.steps import budget_of, create, make_tenant, submit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dpp.admission import Admission, Submission
    from dpp.store.bridge import Bridge
    from tests.store.sessions import Session, Sessions

LOCK = "select from dpp.budgets where tenant_id = 'acme' for no key update"
WAIT_S = 1  # that the pooler lets clients wait for a server connection
CLOSED = (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)  # the budget after one run was reserved
# What the store holds at the server: of the pooler, where there is one.
HELD = "select count(*) from pg_stat_activity where usename = 'dpp_app' and datname = $1"
# Every login reads this table.
HOLD_LOGINS = "lock table pg_catalog.pg_db_role_setting in access exclusive mode"
HELD_LOGINS = """
select count(*) from pg_locks
 where relation = 'pg_catalog.pg_db_role_setting'::regclass and not granted
"""

pytestmark = needs_pgbouncer


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database, and let only this file's pooler stand before it."""
    return evolve(emptied, entrance=emptied.host)


@pytest.fixture
def bouncer(database: Database) -> Iterator[Bouncer]:
    with pgbouncer(database.host, more=f"query_wait_timeout = {WAIT_S}") as one:
        yield one


def through(bouncer: Bouncer, database: Database, pooler: Pooler = Pooler.TRANSACTION) -> Address:
    return Address({"host": bouncer.host, "user": "dpp_app", "database": database.name}, pooler)


@asynccontextmanager
async def opened(
    bridge: Bridge, address: Address, database: Database, sizes: Sizes | None = None
) -> AsyncIterator[PostgresStore]:
    auditor = database.address("dpp_audit")
    async with open_postgres(bridge, address, auditor, sizes or Sizes.of(8), LIMITS) as one:
        one.plans = STORE_PLANS
        yield one


@pytest.fixture
async def pooled(
    bridge: Bridge, database: Database, bouncer: Bouncer, judged: PostgresStore
) -> AsyncIterator[PostgresStore]:
    """A store behind the pooler; `judged` is its twin without."""
    async with opened(bridge, through(bouncer, database), database) as one:
        yield one


async def submit_until_there(store: PostgresStore, one: Submission) -> list[Admission]:
    """Ask as a client does: a pooler that takes its time to come back is an outage."""
    while True:
        with suppress(StoreUnavailable):
            return await submit(store, one)
        await trio.lowlevel.checkpoint()


async def test_a_pooler_that_restarts_in_the_middle_of_a_transaction_costs_a_try(
    pooled: PostgresStore, bouncer: Bouncer, sessions: Sessions, admin: Session
) -> None:
    await make_tenant(pooled)
    async with trio.open_nursery() as nursery:
        await admin.execute("begin")
        await admin.fetch(LOCK)
        submitting = start(nursery, partial(submit_until_there, pooled, submission()))
        await sessions.until_blocked()

        await trio.to_thread.run_sync(bouncer.restart)
        await admin.execute("rollback")
        (answer,) = await submitting.result()

    assert isinstance(answer, Created)
    assert await budget_of(pooled) == CLOSED


async def test_a_server_connection_that_the_pooler_loses_costs_a_try(
    pooled: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    await make_tenant(pooled)
    async with trio.open_nursery() as nursery:
        await admin.execute("begin")
        await admin.fetch(LOCK)
        submitting = start(nursery, partial(submit, pooled, submission()))
        await sessions.until_blocked()

        ended = await admin.fetch(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where usename = 'dpp_app' and datname = current_database()"
        )
        await admin.execute("rollback")
        (answer,) = await submitting.result()

    assert ended
    assert isinstance(answer, Created)
    assert await budget_of(pooled) == CLOSED


async def test_a_login_that_a_reconnect_cuts_is_waited_for_as_long_as_the_pooler_is_told(
    bridge: Bridge, database: Database, admin: Session
) -> None:
    """Unless it is told, for 15 s: no try to connect waits that long, and all of them fail."""
    with pgbouncer(database.host, more="server_login_retry = 1") as bouncer:
        async with (
            opened(bridge, through(bouncer, database), database) as pooled,
            trio.open_nursery() as nursery,
        ):
            await admin.execute("begin")
            await admin.execute(HOLD_LOGINS)
            making = start(nursery, partial(make_tenant, pooled))
            await until_login_waits(admin)

            await bridge.run(partial(reconnect, bouncer.host, database.name))
            await admin.execute("rollback")

            await making.result()
        assert "connect string changed" in explanation(bouncer.host, database.name)


async def test_a_pool_that_others_use_up_is_an_outage_that_ends_with_them(
    pooled: PostgresStore, bouncer: Bouncer, bridge: Bridge, database: Database
) -> None:
    """The pooler throws out who waits too long: nothing was started for it."""
    await make_tenant(pooled)
    to = through(bouncer, database).keywords

    async def hold() -> asyncpg.Connection[Any]:
        other = await asyncpg.connect(**to, statement_cache_size=0)
        await other.execute("set idle_in_transaction_session_timeout = 0; begin; select 1")
        return other

    others = [await bridge.run(hold) for _ in range(2)]
    one = submission()

    with trio.fail_after(SOON_S), pytest.raises(StoreUnavailable):
        await submit(pooled, one)

    async def let_go() -> None:
        for other in others:
            other.terminate()

    await bridge.run(let_go)
    (answer,) = await submit(pooled, one)
    assert isinstance(answer, Created)
    assert await budget_of(pooled) == CLOSED


async def test_statements_that_a_pooler_lost_are_told_as_a_setting_that_is_wrong(
    judged: PostgresStore, bouncer: Bouncer, bridge: Bridge, database: Database
) -> None:
    """As where a pooler in transaction mode was put in between after the node had looked."""
    wrong = through(bouncer, database, Pooler.SESSION)
    await make_tenant(judged)

    async def hold() -> asyncpg.Connection[Any]:
        other = await asyncpg.connect(**wrong.keywords, statement_cache_size=0)
        await other.execute("begin; select 1")  # on the process that knows the statements
        return other

    async with opened(bridge, wrong, database) as store:
        await create(store)
        other = await bridge.run(hold)
        with pytest.raises(StoreBroken) as broken:
            await submit(store, submission())

        async def let_go() -> None:
            other.terminate()

        await bridge.run(let_go)

    assert "InvalidSQLStatementNameError" in str(broken.value)
    assert 'set database.pooler to "transaction", or to "auto"' in str(broken.value)
    assert await budget_of(judged) == CLOSED


async def test_without_a_pool_no_connection_outlives_its_transaction(
    bridge: Bridge, database: Database, judged: PostgresStore, admin: Session
) -> None:
    await make_tenant(judged)
    await judged.close()
    await until_held(admin, database, 0)
    sizes = Sizes.of(8, kept=False)

    async with opened(bridge, database.address(), database, sizes) as store:
        await create(store)
        await store.ping()

        await until_held(admin, database, 0)
    assert await budget_of(judged) == CLOSED


async def test_what_is_over_the_size_of_a_pool_is_closed_when_it_was_used(
    bridge: Bridge, database: Database, judged: PostgresStore, admin: Session, sessions: Sessions
) -> None:
    """Six ask at once of a pool of one and four more: five are there, and one stays."""
    await make_tenant(judged)
    await judged.close()
    await until_held(admin, database, 0)
    sizes = Sizes.of(4, 8)
    holder = await sessions.open("postgres")

    async with opened(bridge, database.address(), database, sizes) as store:
        await holder.execute("begin; lock table dpp.api_keys")
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(store.find_key, "none")
            await until_held(admin, database, 5)
            await holder.execute("rollback")

        await until_held(admin, database, 1)
    assert (sizes.read, sizes.work) == (Share(5, 1), Share(6, 2))


async def until_held(admin: Session, database: Database, count: int) -> None:
    """Return when the store has that many connections at the server."""
    with trio.fail_after(SOON_S):
        while await admin.fetchval(HELD, database.name) != count:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def until_login_waits(admin: Session) -> None:
    """Return when the server keeps somebody waiting who logs in."""
    with trio.fail_after(SOON_S):
        while not await admin.fetchval(HELD_LOGINS):  # noqa: ASYNC110
            await trio.sleep(0.01)
