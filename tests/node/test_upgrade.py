"""A rolling upgrade: two releases on one database, under load, and nobody's run pays for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.cli.exits import Exit
from tests.later import POST, PRE, add_migrations
from tests.node.load import Load
from tests.node_client import until
from tests.node_process import NodeProcess, nodes_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Database
    from tests.node_books import Books

ROOT = Path(__file__).resolve().parents[2]
SEED = 3
LATER = "99.0.0"
CONFIG = "[node]\ndrain_s = 1\n[lease]\nlease_s = 6\nheartbeat_interval_s = 2\n"


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """Give a tree of a later release: another version, with two migrations more."""
    tree = tmp_path / "later"
    for name in ("dpp", "sql", "config"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "dpp" / "version.py").write_text(f'"""A later one."""\n\nVERSION = "{LATER}"\n')
    add_migrations(tree / "sql" / "migrations")
    return tree


def migrate_up(tree: Path, database: Database) -> dict[str, Any]:
    """Let the later release migrate, as the owner."""
    url = f"postgresql://{{}}@/{database.name}?host={database.host}"
    told = subprocess.run(
        [sys.executable, "-m", "dpp", "migrate", "up", "--json"],
        env={
            "PYTHONPATH": str(tree),
            "PATH": "/usr/bin:/bin",
            "DPP_DATABASE__URL": url.format("dpp_app"),
            "DPP_DATABASE__MIGRATIONS_URL": url.format("dpp_owner"),
        },
        check=True,
        stdout=subprocess.PIPE,
        cwd="/",
    )
    document: dict[str, Any] = json.loads(told.stdout)
    return document


async def test_two_releases_work_side_by_side_and_no_run_pays_for_it(
    database: Database, later: Path, books_of: Callable[[NodeProcess], Books]
) -> None:
    with nodes_on(database.host, database.name, CONFIG, CONFIG, CONFIG) as (one, two, new):
        # Safe: else the directory that the tests run in comes first, and is this release.
        new.env = {**new.env, "PYTHONPATH": str(later), "PYTHONSAFEPATH": "1"}
        for node in (one, two):
            await trio.to_thread.run_sync(node.start)
        load = Load({"acme": one.tenant("acme", "1000.00")}, Random(SEED))
        stop = trio.Event()
        async with trio.open_nursery() as senders:
            for node in (one, two):
                senders.start_soon(load.send, node.url, "acme", stop)
            added = await trio.to_thread.run_sync(migrate_up, later, database)
            await trio.to_thread.run_sync(new.start)
            senders.start_soon(load.send, new.url, "acme", stop)
            await trio.to_thread.run_sync(one.terminate)
            one_again = await trio.to_thread.run_sync(one.start)  # old, on what was added
            senders.start_soon(load.send, one_again.url, "acme", stop)
            waits = await trio.to_thread.run_sync(migrate_up, later, database)
            for node in (one, two):
                await trio.to_thread.run_sync(node.terminate)
            taken = await trio.to_thread.run_sync(migrate_up, later, database)
            before = len(load.asked)
            await until(partial(goes_on, load, before))
            stop.set()
        assert new.admin("GET", f"/admin/v1/nodes/{new.node_id}")["version"] == LATER
        one.launch()
        refused = await trio.to_thread.run_sync(one.wait_ended)
        await load.replay(new.url)
        await load.check(new.url)
        books = books_of(new)
        await books.judge()
        spent = await books.value("select count(*) from dpp.endings where attempts_spent > 0")

    assert added["applied"] == [PRE]
    assert (waits["applied"], waits["waiting"]) == ([], [POST])
    assert len(waits["nodes"]) == 2
    assert (taken["applied"], taken["waiting"]) == ([POST], [])
    assert refused == Exit.CONFIGURATION
    assert spent == 0


async def goes_on(load: Load, before: int) -> bool:
    await trio.lowlevel.checkpoint()
    return len(load.asked) > before + 20
