"""What every test may use: one PostgreSQL a run, a fresh database a test, and the store on it."""

from __future__ import annotations

import asyncio  # noqa: TID251 - synchronous fixtures talk to PostgreSQL before trio runs
import itertools
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from attrs import frozen

from dpp.plans import Plan
from dpp.pricing import FeeRule
from dpp.store import migrate, roles
from dpp.store.bridge import Bridge, open_bridge
from dpp.store.connections import Address
from dpp.store.postgres import Limits, PostgresStore, Sizes, open_postgres
from tests.cluster import Cluster, start_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEMPLATE = "dpp_template"
FREE = FeeRule(floor=0, percent_ppm=0, cap=0)
PLANS = {
    "unlimited": Plan("unlimited", fee=FREE),
    "basic": Plan(
        "basic", submits_per_minute=10, concurrent_runs=2, queued_runs=100, max_cost=10_000_000
    ),
    "fee": Plan("fee"),
}
LIMITS = Limits(attempts_max=3, queue_ttl_s=604_800)

_numbers = itertools.count(1)


@frozen
class Database:
    """A database of its own for one test, made from the migrated template."""

    host: str
    name: str

    def address(self, user: str = "dpp_app") -> Address:
        """Return how to connect to it as one of the roles."""
        server = "primary" if user == "dpp_audit" else "read-write"
        return Address({"host": self.host, "user": user, "database": self.name}, server=server)

    async def connect(self, user: str = "postgres") -> asyncpg.Connection[Any]:
        """Connect from a loop of the test's own (see `Bridge.run`)."""
        return await asyncpg.connect(host=self.host, user=user, database=self.name)


async def make_template(cluster: Cluster) -> None:
    """Make the roles and a migrated, empty database."""
    server = await asyncpg.connect(host=cluster.host, user=cluster.user, database="postgres")
    await roles.ensure_roles(server)
    await server.execute(f"create database {TEMPLATE} owner {roles.OWNER}")
    await server.close()
    owner = await asyncpg.connect(host=cluster.host, user=roles.OWNER, database=TEMPLATE)
    await migrate.up(owner)
    await owner.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """PostgreSQL for the whole run, with the template database."""
    server = start_cluster(tmp_path_factory.mktemp("postgres"), max_connections=200)
    asyncio.run(make_template(server))
    yield server
    server.stop()


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    """Give a fresh database; it is dropped after the test."""
    name = f"dpp_test_{next(_numbers)}"

    async def execute(statement: str) -> None:
        server = await asyncpg.connect(host=cluster.host, user=cluster.user, database="postgres")
        await server.execute(statement)
        await server.close()

    asyncio.run(execute(f"create database {name} template {TEMPLATE} owner {roles.OWNER}"))
    yield Database(cluster.host, name)
    asyncio.run(execute(f"drop database {name} with (force)"))


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    """Run a bridge for the test."""
    async with open_bridge() as one:
        yield one


@pytest.fixture
async def store(bridge: Bridge, database: Database) -> AsyncIterator[PostgresStore]:
    """Open the store on the test's database, with the plans of this file."""
    opened = open_postgres(
        bridge, database.address(), database.address("dpp_audit"), Sizes.of(8), LIMITS
    )
    async with opened as one:
        one.plans = PLANS
        yield one
