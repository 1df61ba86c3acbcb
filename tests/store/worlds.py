"""A world: a store, a clock that a test moves, and the judges. One of PostgreSQL, one of the fake."""  # noqa: E501

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import trio
from attrs import define, field

from tests.fake_store import FakeStore
from tests.oracle.money import Memory, Violation, violations
from tests.pgbouncer import reconnect
from tests.store.examples import STORE_PLANS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from dpp.ports import Store
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MOVABLE = (
    "create or replace function dpp.server_now() returns timestamptz"
    " language sql stable parallel safe return dpp.now()"
)


class World(Protocol):
    """What the contract suite asks of an implementation."""

    @property
    def store(self) -> Store: ...

    @property
    def now(self) -> datetime: ...

    async def advance(self, seconds: float) -> None:
        """Let that much time pass by the database's clock."""
        ...

    async def outlive(self, tenant_id: str, run_id: UUID) -> None:
        """Let a run of the tenant's have been, and be past retention."""
        ...

    def held(self, tenant_id: str) -> AbstractAsyncContextManager[None]:
        """Let somebody else hold the tenant's budget row for the length of the block."""
        ...

    async def judge(self) -> None:
        """Look at the books: nothing may be wrong, whatever the test did."""
        ...


@define
class PostgresWorld:
    """PostgreSQL, its clock held still by `dpp.fake_now` of the database."""

    store: PostgresStore
    admin: Session
    pooler_host: str = ""
    now: datetime = NOW
    memory: Memory = field(factory=Memory)

    async def advance(self, seconds: float) -> None:
        """Set the clock on; connections made from now on read it so."""
        self.now += timedelta(seconds=seconds)
        name = await self.admin.fetchval("select current_database()")
        await self.admin.execute(f"alter database {name} set dpp.fake_now = '{self.now}'")
        if self.pooler_host:  # it keeps connections, too
            await self.admin.run(lambda _: reconnect(self.pooler_host, name))
        await self.store.close()

    async def outlive(self, tenant_id: str, run_id: UUID) -> None:
        """Write what is kept of it, as the pruner's role would."""
        insert = (
            "insert into dpp.spent_keys (tenant_id, idempotency_key, run_id, fingerprint,"
            " ended_at, pruned_at) values ($1, $2, $3, '', dpp.now(), dpp.now())"
        )
        await self.admin.fetch(insert, tenant_id, f"order-{run_id}", run_id)

    @asynccontextmanager
    async def held(self, tenant_id: str) -> AsyncIterator[None]:
        """Hold the row as a client does that froze in its transaction."""
        await self.admin.execute("begin")
        lock = "select from dpp.budgets where tenant_id = $1 for no key update"
        await self.admin.fetch(lock, tenant_id)
        try:
            yield
        finally:
            await self.admin.execute("rollback")  # noqa: ASYNC102 - the session's end would do it too

    async def judge(self) -> None:
        """Ask both judges, the product's and the one that knows nothing of it."""
        audit = await self.store.audit()
        found = await self.violations()

        assert [verdict for verdict in audit.verdicts if verdict.offenders] == []
        assert found == []

    async def violations(self) -> list[Violation]:
        """Ask the second judge."""
        return await self.admin.run(lambda connection: violations(connection, self.memory))


async def postgres_world(store: PostgresStore, admin: Session, database: Database) -> PostgresWorld:
    """Stop the clock at `NOW`, also for what prunes, which goes by the server's own."""
    store.plans = STORE_PLANS
    await admin.execute(MOVABLE)
    pooler_host = "" if database.entrance == database.host else database.entrance
    world = PostgresWorld(store, admin, pooler_host)
    await world.advance(0)
    return world


class FakeWorld:
    """The fake, whose clock is this value."""

    def __init__(self) -> None:
        self.now = NOW
        self.fake = FakeStore(STORE_PLANS, now=lambda: self.now)
        self.store: Store = self.fake

    async def advance(self, seconds: float) -> None:
        """Set the clock on."""
        await trio.lowlevel.checkpoint()
        self.now += timedelta(seconds=seconds)

    async def outlive(self, tenant_id: str, run_id: UUID) -> None:
        """Write what is kept of it."""
        await trio.lowlevel.checkpoint()
        self.fake.rows.spent_keys[run_id] = tenant_id

    @asynccontextmanager
    async def held(self, tenant_id: str) -> AsyncIterator[None]:
        """Hold the row."""
        self.fake.faults.hold(tenant_id)
        yield
        self.fake.faults.release(tenant_id)

    async def judge(self) -> None:
        """Ask its own audit."""
        audit = await self.store.audit()

        assert [verdict for verdict in audit.verdicts if verdict.offenders] == []
