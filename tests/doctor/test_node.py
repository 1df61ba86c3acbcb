"""`dpp doctor` beside a real node: well, with results astray, without it, before a launch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import trio

from dpp.cli.exits import Exit
from tests.node_client import connected

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_process import NodeProcess

pytestmark = pytest.mark.direct
MESSAGE = "x" * 100_000  # over runs.inline_max_bytes
DAY_S = 86_400


def doctor(node: NodeProcess, *arguments: str, ended: Sequence[int] = (0,)) -> Any:
    """Ask it as an operator does, in the environment of the node; returns the document."""
    command = [sys.executable, "-m", "dpp", "doctor", "--data-dir", str(node.data_dir), "--json"]
    if node.config:
        command += ["--config", str(node.home / "dpp.toml")]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("DPP_")}
    done = subprocess.run(
        [*command, *arguments], check=False, capture_output=True, env={**bare, **node.env}
    )
    assert done.returncode in ended, done.stderr.decode() + done.stdout.decode()
    return json.loads(done.stdout)


def rows(document: Any, ok: object) -> dict[str, str]:
    return {one["check"]: one["found"] for one in document["checks"] if one["ok"] is ok}


async def test_a_healthy_node_is_well_and_what_is_astray_in_its_store_is_named(
    fresh_node: StartNode,
) -> None:
    node = fresh_node()
    async with connected(node.url, node.tenant("acme")) as client:
        runs = [await client.submitted(inputs={"message": MESSAGE}) for _ in range(2)]
        for run in runs:
            await client.ended(run["run_id"])
    well = await trio.to_thread.run_sync(doctor, node)
    (stays,) = node.results.rglob(f"{runs[0]['run_id']}/1")
    orphan = stays.parent.with_name(str(uuid4())) / "1"
    orphan.parent.mkdir()
    shutil.copy(stays, orphan)
    old = orphan.stat().st_mtime - 2 * DAY_S
    os.utime(orphan, (old, old))
    (gone,) = node.results.rglob(f"{runs[1]['run_id']}/1")
    gone.unlink()
    before = (node.results / "store_id").stat().st_mtime_ns

    astray = await trio.to_thread.run_sync(lambda: doctor(node, ended=(Exit.NEGATIVE,)))

    assert (well["ok"], rows(well, ok=False), rows(well, ok=None)) == (True, {}, {})
    assert len(rows(well, ok=True)) > 30
    assert rows(astray, ok=False).keys() == {"orphan objects", "missing objects"}
    assert str(orphan.parent.name) in rows(astray, ok=False)["orphan objects"]
    assert runs[1]["run_id"] in rows(astray, ok=False)["missing objects"]
    assert orphan.exists()  # it only looked
    assert (node.results / "store_id").stat().st_mtime_ns == before


def test_without_its_node_what_could_not_be_looked_at_is_said_and_nothing_is_started(
    fresh_node: StartNode,
) -> None:
    node = fresh_node()
    assert node.terminate() == 0

    document = doctor(node, ended=(Exit.UNREACHABLE,))

    assert (document["ok"], rows(document, ok=False)) == (None, {})
    assert {"database", "schema", "plans", "orphan objects"} <= rows(document, ok=None).keys()
    assert all(said.startswith("could not look: ") for said in rows(document, ok=None).values())
    assert node.postmasters() == []
    assert {"data directory", "file permissions", "disk space"} <= rows(document, ok=True).keys()


async def test_a_launch_is_go_once_every_row_is_and_not_before(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    node = fresh_node('[node]\nprofile = "production"\n')
    (node.home / "dpp.toml").chmod(0o600)
    backups = node.home / "backups"
    # What the kernel says of its clock is this machine's own.
    ask = ("--go-no-go", "--backups", str(backups), "--confirm", "time")

    def asked(*more: str, go: bool) -> Any:
        return doctor(node, *ask, *more, ended=(Exit.GOOD if go else Exit.NEGATIVE,))

    before = await trio.to_thread.run_sync(lambda: asked(go=False))
    key = node.tenant("acme", plan="basic")
    async with connected(node.url, key) as client:
        await client.ended((await client.submitted())["run_id"])
    take = [sys.executable, "-m", "dpp", "backup", "--data-dir", str(node.data_dir), str(backups)]
    await trio.run_process(take, capture_stdout=True)
    ready = await trio.to_thread.run_sync(lambda: asked(go=True))
    more = await trio.to_thread.run_sync(lambda: asked("--nodes", "3", go=False))
    node.tenant("rich", plan="unlimited")
    manifest = next(backups.rglob("PG_VERSION"))
    manifest.write_text("torn\n")
    (node.data_dir / "admin.token").chmod(0o644)
    node.admin("PUT", "/admin/v1/mode", {"mode": "no-submit", "reason": "a drill", "operator": "t"})
    broken = await trio.to_thread.run_sync(lambda: asked(go=False))

    assert (before["go"], ready["go"]) == (False, True)
    assert rows(before, ok=False).keys() == {"smoke run", "backup"}
    assert rows(more, ok=False).keys() == {"nodes"}
    assert rows(broken, ok=False).keys() == {"plan limits", "backup", "permissions", "mode"}
    assert all(one["fix"] for one in broken["checks"] if one["ok"] is False)


def test_a_launch_without_its_node_is_none(fresh_node: StartNode) -> None:
    node = fresh_node('[node]\nprofile = "production"\n')
    assert node.terminate() == 0

    document = doctor(node, "--go-no-go", ended=(Exit.NEGATIVE,))

    assert document["go"] is False
    assert {"health", "readiness", "audit", "metrics"} <= rows(document, ok=None).keys()


def test_only_what_cannot_be_known_can_be_confirmed_and_only_by_its_name(
    fresh_node: StartNode,
) -> None:
    node = fresh_node()

    document = doctor(node, "--go-no-go", "--confirm", "production profile", ended=(Exit.NEGATIVE,))
    unknown = doctor(node, "--go-no-go", "--confirm", "luck", ended=(Exit.USAGE,))

    assert "production profile" in rows(document, ok=False)
    assert "no row is named luck" in unknown["error"]["what"]
