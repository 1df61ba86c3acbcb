"""A world: a store, a clock that a test moves, and the judges. One of PostgreSQL, one of the fake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from attrs import define, field

from tests.oracle.money import Memory, Violation, violations
from tests.store.examples import STORE_PLANS

if TYPE_CHECKING:
    from dpp.ports import Store
    from dpp.store.postgres import PostgresStore
    from tests.store.sessions import Session

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class World(Protocol):
    """What the contract suite asks of an implementation."""

    store: Store
    now: datetime

    async def advance(self, seconds: float) -> None:
        """Let that much time pass by the database's clock."""
        ...


@define
class PostgresWorld:
    """PostgreSQL, its clock held still by `dpp.fake_now` of the database."""

    store: PostgresStore
    admin: Session
    now: datetime = NOW
    memory: Memory = field(factory=Memory)

    async def advance(self, seconds: float) -> None:
        """Set the clock on; connections made from now on read it so."""
        self.now += timedelta(seconds=seconds)
        name = await self.admin.fetchval("select current_database()")
        await self.admin.execute(f"alter database {name} set dpp.fake_now = '{self.now}'")
        await self.store.close()

    async def judge(self) -> None:
        """Ask both judges: nothing may be wrong, whatever the test did."""
        audit = await self.store.audit()
        found = await self.violations()

        assert [verdict for verdict in audit.verdicts if verdict.offenders] == []
        assert found == []

    async def violations(self) -> list[Violation]:
        """Ask the judge that knows nothing of the product."""
        return await self.admin.run(lambda connection: violations(connection, self.memory))


async def postgres_world(store: PostgresStore, admin: Session) -> PostgresWorld:
    """Stop the clock at `NOW`."""
    store.plans = STORE_PLANS
    world = PostgresWorld(store, admin)
    await world.advance(0)
    return world
