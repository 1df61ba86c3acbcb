"""What every test may use: one PostgreSQL a run, a fresh database a test, and the store on it.

And real nodes: `served_node`, one for the whole run, and `fresh_node` for tests that kill theirs.
With TEST_POOLER=transaction or =session, store and served node reach PostgreSQL through a
PgBouncer, with two server connections a database in transaction mode; what tests ask for themselves
goes to the server directly. That server is Debian's PostgreSQL 15, where it is there.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - synchronous fixtures talk to PostgreSQL before trio runs
import faulthandler
import itertools
import os
import signal
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key as stderr_fd
from attrs import frozen
from hypothesis import settings

from dpp.admission import Terms
from dpp.plans import Plan
from dpp.pricing import FeeRule
from dpp.retention import Keeping
from dpp.store import migrate, roles
from dpp.store.bridge import Bridge, open_bridge
from dpp.store.connections import Address
from dpp.store.desk import Sizes
from dpp.store.poolers import Pooler
from dpp.store.postgres import PostgresStore, open_postgres
from dpp.store.verbs import Limits
from tests.cluster import Cluster, start_cluster
from tests.debian import PROGRAMS, debian
from tests.node_books import Books, judge_now
from tests.node_process import NodeProcess, copy_data, node_process
from tests.pgbouncer import explained, needs_pgbouncer, pgbouncer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

# Before anything imports them.
pytest.register_assert_rewrite(
    "tests.store.chronicle_contract",
    "tests.store.contract",
    "tests.store.gauge_contract",
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

HUNG_S = 30  # from a test's timeout to the end of its process

POOLER = Pooler(os.environ.get("TEST_POOLER", Pooler.NONE))
# Tests reconnect it, which may cut a login: no test shall wait the usual 15 s for the next one.
RETRY_SOON = "server_login_retry = 0.1"
TEMPLATE = "dpp_template"
FREE = FeeRule(floor=0, percent_ppm=0, cap=0)
PLANS = {
    "unlimited": Plan("unlimited", fee=FREE),
    "basic": Plan(
        "basic", submits_per_minute=10, concurrent_runs=2, queued_runs=100, max_cost=10_000_000
    ),
    "fee": Plan("fee"),
    "heavy": Plan("heavy", weight=3),
}
LIMITS = Limits(
    attempts_max=3,
    terms=Terms(queue_ttl_s=604_800, result_days=30),
    keeping=Keeping(runs=400, keys=500, transfers=0),
)

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
    """A database of its own for one test, made from the migrated template.

    `entrance`: the directory of the socket that the store is to use; it may be a pooler's.
    """

    host: str
    name: str
    entrance: str

    def address(self, user: str = "dpp_app") -> Address:
        """Return how the store connects to it as one of the roles."""
        server = "primary" if user == "dpp_audit" else "read-write"
        keywords = {"host": self.entrance, "user": user, "database": self.name}
        return Address(keywords, POOLER, server)

    @property
    def url(self) -> str:
        """Return what a node is configured with."""
        return f"postgresql://dpp_app@/{self.name}?host={self.entrance}"

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
    with ExitStack() as stack:
        if POOLER is not Pooler.NONE and PROGRAMS.is_dir():
            older = stack.enter_context(debian())
            older.start("max_connections=200")
            server = Cluster(older.host, "postgres", older.stop, lambda _: None)
        else:
            server = start_cluster(tmp_path_factory.mktemp("postgres"), max_connections=200)
            stack.callback(server.stop)
        asyncio.run(make_template(server))
        yield server


@pytest.fixture(scope="session")
def entrance(cluster: Cluster) -> Iterator[str]:
    """Say where stores connect: to the server, or to the pooler that this run is about."""
    if POOLER is Pooler.NONE:
        yield cluster.host
        return
    size = 2 if POOLER is Pooler.TRANSACTION else 40
    with pgbouncer(cluster.host, POOLER, pool_size=size, more=RETRY_SOON) as pooler:
        yield pooler.host


@pytest.fixture
def database(cluster: Cluster, entrance: str) -> Iterator[Database]:
    """Give a fresh database; it is dropped after the test."""
    with new_database(cluster, entrance) as one:
        yield one


@contextmanager
def new_database(cluster: Cluster, entrance: str) -> Iterator[Database]:
    """Make a database from the template, and drop it after the block."""
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
    yield Database(cluster.host, name, entrance)
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the process of a test that its timeout did not end, with every thread's stack on stderr.

    pytest-timeout raises in the main thread, once. What waits for a thread while that unwinds, as a
    bridge's end does when trio dies above it, waits for ever; one such test ate a whole run.
    """
    marker = item.get_closest_marker("timeout")
    asked = item.config.getoption("timeout") or item.config.getini("timeout")
    seconds = float(marker.args[0] if marker else asked) + HUNG_S
    faulthandler.dump_traceback_later(seconds, exit=True, file=item.config.stash[stderr_fd])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a pooler hides, where everything goes through one."""
    if POOLER is not Pooler.NONE:
        for item in items:
            item.add_marker(needs_pgbouncer)
        hidden = [item for item in items if item.get_closest_marker("direct")]
        config.hook.pytest_deselected(items=hidden)
        items[:] = [item for item in items if item not in hidden]


class StartNode(Protocol):
    """Start a node on a directory of its own; what it says goes on until the test is over."""

    def __call__(
        self, config: str = "", env: Mapping[str, str] | None = None, *, start: bool = True
    ) -> NodeProcess: ...


@pytest.fixture(scope="session")
def first_node(request: pytest.FixtureRequest) -> Iterator[NodeProcess]:
    """Run one real node for the whole run: tests make tenants of their own on it."""
    with ExitStack() as stack:
        database = None
        if POOLER is not Pooler.NONE:  # else it makes its own, embedded, and no other is started
            where = map(request.getfixturevalue, ("cluster", "entrance"))
            database = stack.enter_context(new_database(*where))
        yield stack.enter_context(serving_node(database))


@pytest.fixture(scope="session")
def served_node(first_node: NodeProcess) -> NodeProcess:
    """Give that node; a folder of tests may ask others too."""
    return first_node


@contextmanager
def serving_node(database: Database | None = None, **settings: str) -> Iterator[NodeProcess]:
    """Run a node for many tests; `settings` are names and values of its environment.

    When all are done its books are judged, no key that was made stands in its log, and it drains.
    Where that fails, a pooler between it and its database says what it knows.
    """
    between: AbstractContextManager[None] = nullcontext()
    if database is not None:
        settings["DPP_DATABASE__URL"] = database.url
        if database.entrance != database.host:
            between = explained(database.entrance, database.name)
    with node_process(CONFIG, {"DPP_LOG__LEVEL": "DEBUG", **settings}) as node, between:
        if database is not None:
            node.host, node.database = database.host, database.name
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
