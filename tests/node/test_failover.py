"""A primary that is none any more: connections are dropped, readiness follows, nothing is lost."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from dpp.store import migrate, roles
from tests.debian import Debian, debian, needs_debian, pair
from tests.node.load import Load
from tests.node.test_outage import acknowledged, is_ready
from tests.node_client import connected, until
from tests.node_process import NodeProcess, node_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import httpx

    from dpp.store.bridge import Bridge
    from tests.node_books import Books
    from tests.node_client import Client

SEED = 20260305
LEASE = "[lease]\nlease_s = 10\nheartbeat_interval_s = 1\n"
# What a switch-over of some hosts does to the server that is left behind: it goes on answering.
READ_ONLY = "alter system set default_transaction_read_only = on; select pg_reload_conf()"
WRITABLE = "alter system reset default_transaction_read_only; select pg_reload_conf()"

pytestmark = needs_debian


async def make(host: str) -> None:
    """Bring a database about, as `dpp migrate` does; on the bridge's loop."""
    import asyncpg  # noqa: PLC0415

    await roles.make_database(host)
    owner = await asyncpg.connect(host=host, user=roles.OWNER, database=roles.DATABASE)
    await migrate.up(owner)
    await owner.close()


def node_on(*servers: Debian) -> dict[str, str]:
    """Return settings that name all of them; the driver takes the one that is the primary."""
    hosts = ",".join(server.host for server in servers)
    return {"DPP_DATABASE__URL": f"postgresql://dpp_app@/dpp?host={hosts}"}


async def not_ready(client: Client) -> httpx.Response | None:
    answer = await client.ask("GET", "/readyz")
    return answer if answer.status_code == 503 else None


async def test_a_node_goes_over_to_the_standby_that_was_promoted_and_loses_nothing(
    bridge: Bridge, books_of: Callable[[NodeProcess], Books]
) -> None:
    with pair() as (primary, standby):
        await bridge.run(partial(make, primary.host))
        with node_process(LEASE, node_on(primary, standby)) as node:
            await trio.to_thread.run_sync(node.start)
            pid = node.pid
            load = Load({"acme": node.tenant("acme", "100.00")}, Random(SEED))
            stop = trio.Event()
            async with trio.open_nursery() as senders, connected(node.url) as client:
                senders.start_soon(load.send, node.url, "acme", stop)
                await until(partial(acknowledged, load, 50))

                await trio.to_thread.run_sync(primary.stop, "fast")
                away = await until(partial(not_ready, client))
                await trio.to_thread.run_sync(standby.promote)

                await until(partial(is_ready, client))
                count = len(load.asked)
                await until(partial(acknowledged, load, count + 20))
                stop.set()
            node.host = standby.host
            await load.replay(node.url)
            await load.check(node.url)
            await books_of(node).judge()

            assert away.json()["services"] == {"api": "up", "database": "down"}
            assert node.pid == pid
            assert not any(line["event"] == "actor crashed" for line in node.lines())
            assert await trio.to_thread.run_sync(node.terminate) == 0


@pytest.fixture
async def alone(bridge: Bridge) -> AsyncIterator[Debian]:
    with debian() as server:
        server.start()
        await bridge.run(partial(make, server.host))
        yield server


async def test_a_primary_that_only_reads_is_not_read_from_and_is_taken_back_when_it_writes(
    alone: Debian, books_of: Callable[[NodeProcess], Books]
) -> None:
    """Its connections live on, and what they say grows old."""
    with node_process(LEASE, node_on(alone)) as node:
        await trio.to_thread.run_sync(node.start)
        node.host = alone.host
        books = books_of(node)
        async with connected(node.url, node.tenant("acme")) as client:
            before = await client.submitted()
            for statement in READ_ONLY.split("; "):
                await books.rows(statement)
            await until(partial(not_ready, client))
            answers = [await client.submit(), await client.ask("GET", "/v1/budget")]
            for statement in WRITABLE.split("; "):
                await books.rows(statement)
            await until(partial(is_ready, client))
            after = await client.submitted()
            ended = [
                await client.until_status(run["run_id"], "COMPLETED") for run in (before, after)
            ]

        assert [answer.status_code for answer in answers] == [503, 503]
        assert [run["attempt"] for run in ended] == [1, 1]
        events = [line["event"] for line in node.lines()]
        assert "no primary any more" in events
        assert "actor crashed" not in events
        await books.judge()
