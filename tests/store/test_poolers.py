"""What stands between is found by asking, whatever else goes on there."""

from __future__ import annotations

import asyncio  # noqa: TID251 - clients beside, on the bridge's loop
import csv
import socket
import subprocess
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from dpp.store import poolers
from dpp.store.poolers import Pooler, find_pooler
from dpp.store.refusal import StartRefused
from dpp.store.server import judged_pooler
from tests.pgbouncer import SOCKET, listens, needs_pgbouncer, pgbouncer

if TYPE_CHECKING:
    from pathlib import Path

    from dpp.store.bridge import Bridge
    from tests.conftest import Database

LOOKS = 10  # a finding that were luck would differ once


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


def keywords(host: str, database: Database) -> dict[str, str]:
    return {"host": host, "user": "dpp_app", "database": database.name}


async def test_a_server_itself_is_direct(bridge: Bridge, database: Database) -> None:
    found = await bridge.run(partial(find_pooler, keywords(database.host, database)))

    assert found is Pooler.NONE


def test_a_pooler_is_up_once_it_listens_not_once_its_socket_is_there(tmp_path: Path) -> None:
    at = tmp_path / SOCKET

    assert not listens(at)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(at))
        assert at.exists()
        assert not listens(at)
        bound.listen()
        assert listens(at)
    assert not listens(at)


@needs_pgbouncer
@pytest.mark.parametrize("pool_size", [1, 2, 8])
async def test_a_transaction_pooler_is_found_without_other_clients(
    bridge: Bridge, database: Database, pool_size: int
) -> None:
    with pgbouncer(database.host, pool_size=pool_size) as pooler:
        find = partial(find_pooler, keywords(pooler.host, database))

        assert {await bridge.run(find) for _ in range(LOOKS)} == {Pooler.TRANSACTION}


@needs_pgbouncer
async def test_a_session_pooler_is_one(bridge: Bridge, database: Database) -> None:
    with pgbouncer(database.host, "session") as pooler:
        find = partial(find_pooler, keywords(pooler.host, database))

        assert {await bridge.run(find) for _ in range(LOOKS)} == {Pooler.SESSION}


@needs_pgbouncer
async def test_a_pooler_that_knows_no_transactions_is_refused(
    bridge: Bridge, database: Database
) -> None:
    with (
        pgbouncer(database.host, "statement") as one,
        pytest.raises(StartRefused, match="statement pooling"),
    ):
        await bridge.run(lambda: find_pooler(keywords(one.host, database)))


async def keep_busy(to: dict[str, Any], stop: asyncio.Event) -> None:
    """Hold a server process for a moment, again and again."""
    client: asyncpg.Connection[Any] = await asyncpg.connect(**to, statement_cache_size=0)
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
        while not stop.is_set():
            await client.execute("begin; select pg_sleep(0.001); commit")
    client.terminate()


@needs_pgbouncer
@pytest.mark.parametrize("pool_size", [2, 4])
async def test_a_transaction_pooler_is_found_beside_busy_clients(
    bridge: Bridge, database: Database, pool_size: int
) -> None:
    async def story(to: dict[str, str]) -> set[Pooler]:
        stop = asyncio.Event()
        clients = [asyncio.create_task(keep_busy(to, stop)) for _ in range(6)]
        await asyncio.sleep(0.05)
        found = {await find_pooler(to) for _ in range(LOOKS)}
        stop.set()
        await asyncio.gather(*clients)
        return found

    with pgbouncer(database.host, pool_size=pool_size) as pooler:
        found = await bridge.run(partial(story, keywords(pooler.host, database)))

    assert found == {Pooler.TRANSACTION}


async def until_waiting(host: str, database: Database, clients: int) -> None:
    """Return once so many clients of the database wait for a server process."""
    psql = ["psql", f"--host={host}", "--username=postgres", "--dbname=pgbouncer", "--csv"]
    command = [*psql, "--no-psqlrc", "--command=show pools"]
    while True:
        ended = await asyncio.to_thread(
            subprocess.run, command, check=True, capture_output=True, text=True
        )
        pools = csv.DictReader(ended.stdout.splitlines())
        if (
            sum(int(one["cl_waiting"]) for one in pools if one["database"] == database.name)
            == clients
        ):
            return


@needs_pgbouncer
async def test_a_transaction_pooler_is_found_though_the_first_process_is_taken_at_once(
    bridge: Bridge, database: Database
) -> None:
    """Whoever asks again and again may always be given the other one: so both ask."""

    async def story(to: dict[str, str]) -> Pooler:
        one, other, first, second, third = [
            await asyncpg.connect(**to, statement_cache_size=0) for _ in range(5)
        ]
        for holds in (first, second):
            await holds.execute("begin; select 1")
        finding = asyncio.create_task(poolers._compare(one, other))
        await until_waiting(to["host"], database, 1)
        taking = asyncio.create_task(third.execute("begin; select 1"))
        await until_waiting(to["host"], database, 2)
        await second.execute("rollback")  # `one` is answered there, and `third` stays there
        await taking
        await first.execute("rollback")
        found = await finding
        for client in (one, other, first, second, third):
            client.terminate()
        return found

    with pgbouncer(database.host, pool_size=2) as pooler:
        found = await bridge.run(partial(story, keywords(pooler.host, database)))

    assert found is Pooler.TRANSACTION


@pytest.mark.parametrize("found", Pooler)
@pytest.mark.parametrize("setting", ["auto", *Pooler])
def test_a_setting_that_contradicts_what_was_found_is_refused(setting: str, found: Pooler) -> None:
    if setting in {"auto", found}:
        assert judged_pooler(setting, found) == found
        return
    if (setting, found) == (Pooler.TRANSACTION, Pooler.SESSION):  # it may be two of them
        assert judged_pooler(setting, found) == Pooler.TRANSACTION
        return

    with pytest.raises(StartRefused) as refused:
        judged_pooler(setting, found)

    assert f'database.pooler is "{setting}"' in refused.value.what
    assert f'Set database.pooler to "{found}"' in refused.value.remedy
