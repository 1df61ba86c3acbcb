"""Tenants on the served node, and a look at the books around what must write nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.conftest import serving_node
from tests.node_client import Client, connected
from tests.node_process import NodeProcess, new_name

if TYPE_CHECKING:
    from tests.node_books import Books

SERVERS = {"actor": "first_node", "hypercorn": "second_node"}

NewTenant: TypeAlias = Callable[..., Awaitable[Client]]
Untouched: TypeAlias = Callable[[Client], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="session")
def second_node() -> Iterator[NodeProcess]:
    """Run a node whose public API is served by hypercorn."""
    with serving_node(DPP_HTTP__SERVER="hypercorn") as node:
        yield node


@pytest.fixture(scope="session", params=SERVERS)
def served_node(request: pytest.FixtureRequest) -> NodeProcess:
    """Give a real node; each test of this folder is asked of either server."""
    node: NodeProcess = request.getfixturevalue(SERVERS[request.param])
    return node


@pytest.fixture
async def new_tenant(served_node: NodeProcess) -> AsyncIterator[NewTenant]:
    """Give a way to make tenants: `plan`, `deposit_usd`."""
    async with AsyncExitStack() as stack:

        async def make(plan: str = "unlimited", deposit_usd: str = "10.00") -> Client:
            name = new_name()
            key = served_node.tenant(name, deposit_usd, plan=plan)
            return await stack.enter_async_context(connected(served_node.url, key, name))

        yield make


@pytest.fixture
async def acme(new_tenant: NewTenant) -> Client:
    """Give a tenant with $10 and no limits."""
    return await new_tenant()


@pytest.fixture(scope="module")
def shared_key(served_node: NodeProcess) -> str:
    """Give the key of one tenant for all tests of a module that leave no trace."""
    return served_node.tenant(new_name())


@pytest.fixture
async def shared(served_node: NodeProcess, shared_key: str) -> AsyncIterator[Client]:
    """Give the module's tenant."""
    async with connected(served_node.url, shared_key) as one:
        yield one


@pytest.fixture
def untouched(served_node: NodeProcess) -> Untouched:
    """Give a block that must leave a tenant's books and the process as they were."""
    pid = served_node.pid

    @asynccontextmanager
    async def around(client: Client) -> AsyncIterator[None]:
        before = await client.books()
        yield
        assert await client.books() == before
        assert (await client.as_nobody().get("/health"))["status"] == "healthy"
        assert served_node.running
        assert served_node.pid == pid

    return around


@pytest.fixture
def books(served_node: NodeProcess, books_of: Callable[[NodeProcess], Books]) -> Books:
    """Look into the database of the served node."""
    return books_of(served_node)
