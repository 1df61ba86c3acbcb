"""What every test may use: one PostgreSQL a run, a fresh database a test, and the store on it.

And real nodes: `served_node`, one for the whole run, and `fresh_node` for tests that kill theirs.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - synchronous fixtures talk to PostgreSQL before trio runs
import itertools
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
import pytest
from attrs import frozen
from hypothesis import settings

from dpp.admission import Terms
from dpp.plans import Plan
from dpp.pricing import FeeRule
from dpp.store import migrate, roles
from dpp.store.bridge import Bridge, open_bridge
from dpp.store.connections import Address
from dpp.store.desk import Sizes
from dpp.store.postgres import PostgresStore, open_postgres
from dpp.store.verbs import Limits
from tests.cluster import Cluster, start_cluster
from tests.node_books import Books, judge_now
from tests.node_process import NodeProcess, copy_data, node_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

# Before anything imports them.
pytest.register_assert_rewrite(
    "tests.store.chronicle_contract",
    "tests.store.contract",
    "tests.store.key_contract",
    "tests.store.receipt_contract",
    "tests.store.resolve_contract",
    "tests.store.webhook_contract",
    "tests.store.worlds",
)

# Children inherit what is ignored, and a shell's background job ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No example fails because the machine was busy; a failing one prints what repeats it.
settings.register_profile("shared machine", deadline=None, print_blob=True)
settings.load_profile("shared machine")

TEMPLATE = "dpp_template"
FREE = FeeRule(floor=0, percent_ppm=0, cap=0)
PLANS = {
    "unlimited": Plan("unlimited", fee=FREE),
    "basic": Plan(
        "basic", submits_per_minute=10, concurrent_runs=2, queued_runs=100, max_cost=10_000_000
    ),
    "fee": Plan("fee"),
}
LIMITS = Limits(attempts_max=3, terms=Terms(queue_ttl_s=604_800, result_days=30))

# Of the served node: what the shipped plans have no example for, each a limit of its own.
CONFIG = """
[http]
cors_allowed_origins = ["https://app.example.com"]
[plans.ten]
submits_per_minute = 10
[plans.capped]
concurrent_runs = 1
[plans.queue]
concurrent_runs = 1
queued_runs = 2
[plans.reader]
reads_per_minute = 5
[plans.picky]
packs = ["echo"]
[plans.small]
max_cost_usd = "0.50"
[plans.thrifty]
spend_per_day_usd = "0.03"
[plans.free]
minimum_fee_floor_usd = "0"
minimum_fee_percent = "0"
"""

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

    asyncio.run(
        execute(
            f"create database {name} template {TEMPLATE} owner {roles.OWNER} strategy file_copy"
        )
    )
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


class StartNode(Protocol):
    """Start a node on a directory of its own; what it says goes on until the test is over."""

    def __call__(
        self, config: str = "", env: Mapping[str, str] | None = None, *, start: bool = True
    ) -> NodeProcess: ...


@pytest.fixture(scope="session")
def first_node() -> Iterator[NodeProcess]:
    """Run one real node for the whole run: tests make tenants of their own on it."""
    with serving_node() as node:
        yield node


@pytest.fixture(scope="session")
def served_node(first_node: NodeProcess) -> NodeProcess:
    """Give that node; a folder of tests may ask others too."""
    return first_node


@contextmanager
def serving_node(**settings: str) -> Iterator[NodeProcess]:
    """Run a node for many tests; `settings` are names and values of its environment.

    When all are done its books are judged, no key that was made stands in its log, and it drains.
    """
    with node_process(CONFIG, {"DPP_LOG__LEVEL": "DEBUG", **settings}) as node:
        yield node.start()
        judge_now(node)
        log = node.text()
        assert [key for key in (*node.keys, node.admin_token) if key in log] == []
        assert node.terminate() == 0


@pytest.fixture(scope="session")
def stopped_node() -> Iterator[NodeProcess]:
    """Give a node that has made its database, migrated it and drained: what others begin from."""
    with node_process() as node:
        node.start()
        assert node.terminate() == 0
        yield node


@pytest.fixture
def fresh_node(stopped_node: NodeProcess) -> Iterator[StartNode]:
    """Give a way to start nodes that this test may kill; one that it starts itself has no database.

    To make a database takes most of a start.
    """
    with ExitStack() as stack:

        def begin(
            config: str = "", env: Mapping[str, str] | None = None, *, start: bool = True
        ) -> NodeProcess:
            node = stack.enter_context(node_process(config, env))
            if not start:
                return node
            copy_data(stopped_node, node)
            return node.start()

        yield begin


@pytest.fixture
def books_of(bridge: Bridge) -> Callable[[NodeProcess], Books]:
    """Give a way to look into the database of a node."""
    return lambda node: Books(node, bridge)
