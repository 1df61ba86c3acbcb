"""A restore drill: a backup of a node under load, on another directory, and the books hold there."""  # noqa: E501

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.cli.exits import Exit
from tests.node.load import Load
from tests.node_books import audit_of
from tests.node_client import connected, until
from tests.node_process import NodeProcess, node_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import StartNode
    from tests.node_books import Books

SEED = 1
LARGE = {"message": "x" * 100_000}


def dpp(*words: str, data_dir: Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "dpp", *words, "--json", "--data-dir", str(data_dir)]
    ended = subprocess.run(command, capture_output=True, check=False)
    return ended.returncode, json.loads(ended.stdout)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Give a place for backups that the node's user may write."""
    return tmp_path / "backups"


async def test_a_backup_under_load_restores_to_books_that_hold(
    fresh_node: StartNode, books_of: Callable[[NodeProcess], Books], there: Path
) -> None:
    node = fresh_node()
    key = node.tenant("acme", "1000.00")
    load = Load({"acme": key}, Random(SEED))
    stop = trio.Event()
    async with connected(node.url, key) as client, trio.open_nursery() as senders:
        large = await client.submitted(inputs=LARGE)
        await client.ended(large["run_id"])
        for _ in range(3):
            senders.start_soon(load.send, node.url, "acme", stop)
        await until(lambda: enough(load, 20))
        known = [str(one.run_id) for one in load.asked if one.run_id is not None]
        status, taken = await asked("backup", str(there), data_dir=node.data_dir)
        stop.set()
    backup = taken["path"]
    assert (status, taken["results"]) == (0, 1)
    assert (await asked("verify", backup, data_dir=node.data_dir))[0] == 0

    with node_process() as other:
        shutil.rmtree(other.data_dir, ignore_errors=True)
        restored = await asked("restore", backup, data_dir=other.data_dir)
        await trio.to_thread.run_sync(other.start)
        async with connected(other.url, key) as client:
            result = await client.ask("GET", f"/v1/runs/{large['run_id']}/result")
            budget = await client.get("/v1/budget")

        async def nothing_lives() -> bool:
            return bool(await books_of(other).value("select count(*) from dpp.live_runs") == 0)

        await until(nothing_lives)
        await books_of(other).judge()
        async with connected(other.url, key) as client:
            runs = [await client.run(run_id) for run_id in known]

    assert restored[0] == 0
    assert result.json() == LARGE
    assert budget["deposited_usd"] == "1000.00"
    assert len(runs) >= 10
    assert {run["status"] for run in runs} <= {"COMPLETED", "FAILED"}
    assert await trio.to_thread.run_sync(partial(audit_of, node)) == []


async def test_what_is_astray_in_a_backup_is_found_and_never_restored(
    fresh_node: StartNode, there: Path, tmp_path: Path
) -> None:
    node = fresh_node()
    key = node.tenant("acme", "10.00")
    async with connected(node.url, key) as client:
        large = await client.submitted(inputs=LARGE)
        await client.ended(large["run_id"])
    taken = []
    for _ in range(3):
        words = ("backup", str(there), "--keep", "2", "--verify")
        taken.append((await asked(*words, data_dir=node.data_dir))[1]["path"])
        await trio.sleep(1.1)  # a backup is named by its second
    left, one, other = await trio.to_thread.run_sync(spoil, there)

    verified = [
        (await asked("verify", str(path), data_dir=node.data_dir))[0] for path in (one, other)
    ]
    restored = [
        (await asked("restore", str(path), data_dir=tmp_path / name))[0]
        for path, name in ((one, "a"), (other, "b"))
    ]

    assert [str(path) for path in left] == taken[1:]
    assert verified == restored == [Exit.NEGATIVE] * 2
    assert not any((tmp_path / name / "postgres").exists() for name in "ab")


async def test_what_cannot_be_done_says_so_and_changes_nothing(
    fresh_node: StartNode, there: Path
) -> None:
    node = fresh_node()
    inside = await asked("backup", str(node.data_dir / "backups"), data_dir=node.data_dir)
    received = await asked("receive-wal", str(node.data_dir / "wal"), data_dir=node.data_dir)
    taken = await asked("backup", str(there), data_dir=node.data_dir)
    full = await asked("restore", taken[1]["path"], data_dir=node.data_dir)
    node.terminate()
    over = await asked("restore", taken[1]["path"], data_dir=node.data_dir)
    stopped = await asked("backup", str(there), data_dir=node.data_dir)
    none = await asked("verify", str(node.data_dir), data_dir=node.data_dir)
    newest = await asked("verify", str(there), data_dir=node.data_dir)

    assert (newest[0], newest[1]["path"]) == (0, taken[1]["path"])
    assert (inside[0], received[0], taken[0], over[0], none[0]) == (1, 1, 0, 1, 1)
    assert full[0] == Exit.CONFIGURATION  # a node runs there
    assert stopped[0] == Exit.UNREACHABLE
    assert "is not empty" in over[1]["error"]["what"]
    await trio.to_thread.run_sync(node.start)


async def test_nothing_is_restored_to_where_a_killed_nodes_postgresql_still_writes(
    fresh_node: StartNode, there: Path
) -> None:
    node = fresh_node()
    _, taken = await asked("backup", str(there), data_dir=node.data_dir)
    await trio.to_thread.run_sync(node.kill9)
    lost = node.home / "lost"
    await trio.to_thread.run_sync(node.data_dir.rename, lost)

    status, told = await asked("restore", taken["path"], data_dir=node.data_dir)

    [orphan] = node.postmasters()
    assert status == Exit.CONFIGURATION
    assert f"kill -QUIT {orphan}" in told["error"]["todo"]


def spoil(there: Path) -> tuple[list[Path], Path, Path]:
    """Change a bit of a table in one of two backups, and of a result in the other."""
    left = sorted(there.iterdir())
    one, other = left
    tables = [path for path in (one / "postgres" / "base").rglob("*") if path.is_file()]
    [blob] = [path for path in (other / "blobs").rglob("*") if path.stat().st_size > 100_000]
    for path in (max(tables, key=lambda path: path.stat().st_size), blob):
        body = bytearray(path.read_bytes())
        body[len(body) // 2] ^= 1
        path.write_bytes(body)
    return left, one, other


async def asked(*words: str, data_dir: Path) -> tuple[int, dict[str, Any]]:
    return await trio.to_thread.run_sync(partial(dpp, *words, data_dir=data_dir))


async def enough(load: Load, runs: int) -> bool:
    await trio.lowlevel.checkpoint()
    return len(load.asked) >= runs
