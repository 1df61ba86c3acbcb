"""From the embedded database to a server of one's own, by the commands of docs/deploy.md."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from tests.debian import debian, needs_debian
from tests.docs import blocks
from tests.node_books import audit_of, judge_now
from tests.node_client import connected, problem
from tests.node_process import node_process

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_process import NodeProcess

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
HEADING = "Move to a PostgreSQL of your own"
LARGE = {"message": "x" * 100_000}


def follow(script: str, ours: dict[str, str], data_dir: Path) -> None:
    """Run a block of the page, with our places for its own."""
    for its, mine in ours.items():
        script = script.replace(its, mine)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "DPP_DATA_DIR": str(data_dir)}
    ended = subprocess.run(
        ["bash", "-euc", script], check=False, env=env, capture_output=True, text=True
    )
    assert ended.returncode == 0, (script, ended.stdout, ended.stderr)


def tenants(node: NodeProcess) -> Any:
    return node.admin("GET", "/admin/v1/tenants")


@needs_debian
async def test_books_move_to_a_server_of_ones_own_and_hold_there(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    old = fresh_node("[runs]\ninline_max_bytes = 4096\n")
    key = old.tenant("acme", "100.00")
    async with connected(old.url, key) as client:
        large = await client.submitted(inputs=LARGE)
        await client.ended(large["run_id"])
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()  # noqa: TID251 - a client's
        waits = await client.submitted(run_at=tomorrow)
    stops, dumps, restores, _ = blocks(PAGE, HEADING)
    before = await trio.to_thread.run_sync(tenants, old)
    audits, mode = stops.splitlines()[:2]
    await trio.to_thread.run_sync(follow, f"{audits}\n{mode}", {}, old.data_dir)
    await trio.to_thread.run_sync(old.terminate)

    with debian() as server:
        await trio.to_thread.run_sync(server.start)
        urls = {
            "app": f"postgresql://dpp_app@/dpp?host={server.host}",
            "owner": f"postgresql://dpp_owner@/dpp?host={server.host}",
            "admin": f"postgresql://postgres@/postgres?host={server.host}",
        }
        (tmp_path / "secrets").mkdir()
        for name, url in urls.items():
            file = tmp_path / "secrets" / f"{name}.url"
            file.touch(0o600)
            file.write_text(url)
        ours = {
            "runuser -u dpp -- ": "",
            " -o dpp": "",
            "/var/lib/dpp-move": str(tmp_path / "move"),
            "/var/lib/dpp": str(old.data_dir),
            "secrets/": f"{tmp_path}/secrets/",
        }
        for script in (dumps, restores):
            await trio.to_thread.run_sync(follow, script, ours, old.data_dir)
        with node_process(f'[database]\nurl = "{urls["app"]}"\n', data_dir=old.data_dir) as new:
            new.host = server.host
            await trio.to_thread.run_sync(new.start)
            assert await trio.to_thread.run_sync(partial(audit_of, new)) == []
            after = await trio.to_thread.run_sync(tenants, new)
            command = [sys.executable, "-m", "dpp", "migrate", "status", "--json"]
            command += ["--data-dir", str(new.data_dir)]
            elsewhere = await trio.run_process(command, check=False, capture_stdout=True)
            async with connected(new.url, key) as client:
                refused = await client.submit()
                new.admin("PUT", "/admin/v1/mode", {"mode": "normal", "reason": "moved"})
                bought = await client.submitted()
                ended = await client.ended(bought["run_id"])
                result = await client.ask("GET", f"/v1/runs/{large['run_id']}/result")
                waiting = await client.run(waits["run_id"])
            await trio.to_thread.run_sync(judge_now, new)

    assert (elsewhere.returncode, b"another-database" in elsewhere.stdout) == (1, True)
    assert after == before
    assert (refused.status_code, problem(refused)) == (503, "temporary-reduced-capacity")
    assert ended["status"] == "COMPLETED"
    assert result.json() == LARGE
    assert waiting["status"] == "QUEUED"
