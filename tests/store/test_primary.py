"""A server that only reads is no primary: no connection of before is believed any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpp.store import reads
from dpp.store.connections import Pool, Primary
from dpp.store.desk import Desk, Sizes

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from dpp.store.connections import Connection
    from tests.conftest import Database

WALL_S = 10.0

pytestmark = pytest.mark.direct  # a pooler gives one connection several processes


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


async def pid(connection: Connection) -> int:
    return connection.get_server_pid()


async def test_no_pool_lends_what_was_connected_before_a_failover(
    bridge: Bridge, database: Database
) -> None:
    primary = Primary()

    async def story() -> list[set[int]]:
        pools = [Pool(database.address(), 1, primary=primary) for _ in range(2)]
        before, again, after = set(), set(), set()
        for pids in (before, again):
            for pool in pools:
                async with pool.connection(WALL_S) as connection:
                    pids.add(await pid(connection))
        async with pools[1].connection(WALL_S):  # in use meanwhile
            pools[0].fail_over()
        for pool in pools:
            async with pool.connection(WALL_S) as connection:
                after.add(await pid(connection))
            pool.close()
        return [before, again, before & after]

    before, again, kept = await bridge.run(story)

    assert before == again
    assert kept == set()


async def test_a_write_that_is_refused_because_the_server_only_reads_drops_all_pools(
    bridge: Bridge, database: Database
) -> None:
    desk = Desk(bridge, database.address(), database.address("dpp_audit"), Sizes.of(4))
    tries: list[int] = []

    async def write(connection: Connection) -> None:
        tries.append(await pid(connection))
        mode = "read only" if len(tries) == 1 else "read write"
        async with connection.transaction():
            await connection.execute(f"set transaction {mode}")
            await connection.execute("insert into nodes (node_id) select null where false")

    reader = await desk.ask("reading", desk.read, pid)
    assert await desk.ask("reading", desk.read, pid) == reader

    await desk.ask("writing", desk.work, write)

    assert len(set(tries)) == 2
    assert await desk.ask("reading", desk.read, pid) != reader
    await desk.close()


async def test_a_ping_does_not_take_a_server_that_only_reads_for_a_database(
    bridge: Bridge, database: Database
) -> None:

    desk = Desk(bridge, database.address(), database.address("dpp_audit"), Sizes.of(4))

    async def only_read(connection: Connection) -> int:
        await connection.execute("set session characteristics as transaction read only")
        return await pid(connection)

    demoted = await desk.ask("reading", desk.read, only_read)

    await desk.ask("ping", desk.read, reads.ping, once=True)

    assert await desk.ask("reading", desk.read, pid) != demoted
    await desk.close()
