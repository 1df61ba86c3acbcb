"""Full disks: of the store of results, and of PostgreSQL. Nothing is lost, and work goes on when there is room.

Root mounts small disks for it; elsewhere these tests are skipped, and say so.
"""  # noqa: E501

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import pytest
import trio

from dpp.files import UNFINISHED
from dpp.store import roles
from tests.cluster import Cluster, start_cluster
from tests.fault.disk import MIB, fill, small_disk, why_no_mounts
from tests.fault.fleet import migrate
from tests.node_client import Client, connected, problem, until
from tests.node_process import NodeProcess, copy_data, node_process

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
pytestmark = pytest.mark.skipif(
    why_no_mounts() is not None, reason=f"no disk can be filled here: {why_no_mounts()}"
)

RESULTS_DISK = 8 * MIB  # the smallest that ext4 makes much of
# A cluster with the tables takes 48 MiB of files and WAL, a copy of the programs up to 90.
POSTGRES_DISK = 256 * MIB
WAL_DISK = 128 * MIB  # two segments, and what PostgreSQL wants free before a start
LARGE = {"message": "x" * 100_000, "cost_usd": "0.001"}  # over runs.inline_max_bytes
HALF = 64 * 1024  # room for the directories of a result, and for some of it
BODY = b'{"message":"' + b"x" * 100_000 + b'"}'
CONFIG = """
[lease]
lease_s = 4
heartbeat_interval_s = 1
[reaper]
interval_s = 1
[reconcile]
interval_s = 1
store_wait_s = {wait_s}
[runs]
attempts_max = 2
"""
MEGABYTE = "select pg_logical_emit_message(true, 'fill', repeat('x', 1000000))"
KEPT = {"store_id", "filler"}
STORING = "select count(*) from dpp.live_runs where storing"


async def ended(client: Client, run_id: str) -> dict[str, Any]:
    """Wait for the end of a run, asking again where the database is away."""

    async def look() -> dict[str, Any] | None:
        answer = await client.ask("GET", f"/v1/runs/{run_id}", params={"wait": 5})
        run: dict[str, Any] = answer.json()
        return run if answer.status_code == 200 and run["finished_at"] else None

    return await until(look)


def objects(place: Path) -> list[bytes]:
    """Return the bodies of what is stored."""
    names = {file for file in place.rglob("*") if file.name not in KEPT}
    files = [file for file in names if file.is_file() and not file.name.startswith(UNFINISHED)]
    return [file.read_bytes().partition(b"\n")[2] for file in files]


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    """Take away at the end what the test mounted."""
    with ExitStack() as stack:
        yield stack


async def test_runs_wait_for_room_in_the_store_of_results_and_complete_when_there_is(
    fresh_node: StartNode, books_of: BooksOf, mounts: ExitStack
) -> None:
    node = fresh_node(CONFIG.format(wait_s=600), start=False)
    node.results.mkdir(parents=True)
    kind = mounts.enter_context(small_disk(node.results, RESULTS_DISK))
    print(f"a disk of {kind}")
    node.start()
    books, full = books_of(node), node.results / "filler"
    async with connected(node.url, node.tenant("acme")) as client:
        fill(full, leave=HALF)
        runs = [await client.submitted(inputs=LARGE) for _ in range(5)]
        small = await client.ended((await client.submitted())["run_id"])

        async def all_store() -> bool:
            return bool(await books.value(STORING) == len(runs))

        await until(all_store)
        there = [await client.run(run["run_id"]) for run in runs]
        stored = objects(node.results)
        full.unlink()
        ends = [await client.ended(run["run_id"]) for run in runs]

    assert small["status"] == "COMPLETED"
    assert {run["status"] for run in there} == {"PROCESSING"}
    assert stored == []
    assert {(run["status"], run["cost"]["actual_usd"]) for run in ends} == {("COMPLETED", "0.001")}
    assert {run["result_sha256"] for run in ends} == {hashlib.sha256(BODY).hexdigest()}
    assert objects(node.results) == [BODY] * len(runs)
    assert node.running
    await books.judge()


async def test_a_store_of_results_that_stays_full_fails_runs_free(
    fresh_node: StartNode, books_of: BooksOf, mounts: ExitStack
) -> None:
    node = fresh_node(CONFIG.format(wait_s=1), start=False)
    node.results.mkdir(parents=True)
    mounts.enter_context(small_disk(node.results, RESULTS_DISK))
    node.start()
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        fill(node.results / "filler")
        run = await client.ended((await client.submitted(inputs=LARGE))["run_id"])

        (node.results / "filler").unlink()
        later = await client.ended((await client.submitted(inputs=LARGE))["run_id"])

    assert (run["status"], run["cost"]["actual_usd"]) == ("FAILED", "0.00")
    assert (run["error"]["code"], run["error"]["payer"]) == ("store_unavailable", "platform")
    assert later["status"] == "COMPLETED"
    assert objects(node.results) == [BODY]
    await books.judge()


@pytest.fixture
def crowded(mounts: ExitStack) -> tuple[Cluster, Path]:
    """Run a PostgreSQL on a small disk of its own; the file that may fill it."""
    place = Path(mounts.enter_context(tempfile.TemporaryDirectory(prefix="dpp-full-")))
    place.chmod(0o755)
    print(f"a disk of {mounts.enter_context(small_disk(place, POSTGRES_DISK))}")
    place.chmod(0o755)
    cluster = start_cluster(place, max_connections=30)
    mounts.callback(cluster.stop)
    assert cluster.host.startswith(str(place))
    return cluster, place / "filler"


async def test_postgres_out_of_room_refuses_runs_and_takes_them_when_there_is_some(
    bridge: Bridge, books_of: BooksOf, mounts: ExitStack, crowded: tuple[Cluster, Path]
) -> None:
    cluster, full = crowded
    await bridge.run(partial(roles.make_database, cluster.host))
    config = CONFIG.format(wait_s=600) + (
        f'[database]\nurl = "postgresql://dpp_app@/dpp?host={cluster.host}"\n'
        f'migrations_url = "postgresql://{roles.OWNER}@/dpp?host={cluster.host}"\n'
    )
    node = mounts.enter_context(node_process(config))
    node.host = cluster.host
    migrate(node)
    node.start()
    pid, books = node.pid, books_of(node)
    accepted: list[str] = []
    refused: list[httpx.Response] = []
    async with connected(node.url, node.tenant("acme", "100.00")) as client:

        async def is_refused() -> bool:
            """Submit; there is room for a few rows in pages and WAL that PostgreSQL has already."""
            answer = await client.submit(inputs={"message": "y" * 8_000, "cost_usd": "0.001"})
            assert answer.status_code in {201, 503}, answer.text
            if answer.status_code == 201:
                accepted.append(answer.json()["run_id"])
            else:
                refused.append(answer)
            return len(refused) >= 3

        accepted.append((await client.submitted())["run_id"])
        fill(full)
        await until(is_refused)
        health = await client.ask("GET", "/health")

        full.unlink()
        await until(partial(is_accepted, client, accepted))
        ends = [await ended(client, run_id) for run_id in accepted]

    print(f"{len(accepted)} accepted, {len(refused)} refused")
    assert {problem(answer) for answer in refused} == {"temporary-reduced-capacity"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert health.status_code == 200
    assert {run["status"] for run in ends} == {"COMPLETED"}
    assert node.pid == pid
    assert not any(line["event"] in {"actor crashed", "draining"} for line in node.lines())
    await books.judge()
    assert await trio.to_thread.run_sync(node.terminate) == 0


async def test_wal_on_a_full_disk_of_its_own_ends_postgres_and_not_the_node(
    fresh_node: StartNode, stopped_node: NodeProcess, books_of: BooksOf, mounts: ExitStack
) -> None:
    """A segment that cannot be made is a PANIC: PostgreSQL is started again when there is room."""
    node = fresh_node(start=False)
    copy_data(stopped_node, node)
    disk = node.home / "wal"
    disk.mkdir()
    print(f"a disk of {mounts.enter_context(small_disk(disk, WAL_DISK))}")
    move_wal(node.data_dir / "postgres" / "pg_wal", disk)
    node.start()
    pid, full, books = node.pid, disk / "filler", books_of(node)
    accepted: list[str] = []
    async with connected(node.url, node.tenant("acme", "100.00")) as client:
        accepted.append((await client.submitted())["run_id"])
        fill(full)
        with suppress(asyncpg.PostgresError, OSError):  # the segment that there is no room for
            while True:
                await books.execute(
                    "select pg_logical_emit_message(true, 'fill', repeat('x', 1000000))"
                )

        async def waited_for() -> bool:
            await trio.lowlevel.checkpoint()
            events = [line["event"] for line in node.lines()]
            return "disk full: postgres not started" in events

        await until(waited_for)
        refused = await client.submit()
        health = await client.ask("GET", "/health")
        full.unlink()
        await until(partial(is_accepted, client, accepted))
        ends = [await ended(client, run_id) for run_id in accepted]

    assert (refused.status_code, health.status_code) == (503, 200)
    assert int(refused.headers["retry-after"]) >= 1
    assert {run["status"] for run in ends} == {"COMPLETED"}
    assert node.pid == pid
    assert not any(line["event"] in {"actor crashed", "draining"} for line in node.lines())
    await books.judge()
    assert await trio.to_thread.run_sync(node.terminate) == 0


def move_wal(place: Path, disk: Path) -> None:
    """Give WAL a disk of its own, as initdb --waldir does."""
    owner = place.stat()
    for path in place.iterdir():
        shutil.move(path, disk)
    place.rmdir()
    place.symlink_to(disk)
    for path in (disk, *disk.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    disk.chmod(0o700)


async def is_accepted(client: Client, accepted: list[str]) -> bool:
    """Say whether a run is taken again."""
    answer = await client.submit()
    if answer.status_code == 201:
        accepted.append(answer.json()["run_id"])
    return answer.status_code == 201
