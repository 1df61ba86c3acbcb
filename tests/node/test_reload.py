"""A reload of a real node under load: what is live changes, no request fails, no run is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from tests.node_client import connected, problem, until
from tests.node_process import new_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import StartNode
    from tests.node_books import Books
    from tests.node_process import NodeProcess

CONFIG = """
[plans.small]
queued_runs = {queued}
[runs]
concurrency = {places}
[http]
wait_max_s = {wait_s}
"""
SENDERS = 4
RELOADS = 6


def rewrite(node: NodeProcess, text: str) -> None:
    """Write the file that the node was started with, and send SIGHUP."""
    (node.home / "dpp.toml").write_text(text)
    node.signal(signal.SIGHUP)


def lines(node: NodeProcess, event: str) -> list[dict[str, Any]]:
    return [line for line in node.lines() if line["event"] == event]


async def told(node: NodeProcess, event: str, times: int) -> None:
    async def there() -> bool:
        return len(lines(node, event)) >= times

    await until(there)


async def test_under_load_plans_change_no_request_fails_and_no_run_is_lost(
    fresh_node: StartNode, books_of: Callable[[NodeProcess], Books]
) -> None:
    node = fresh_node(CONFIG.format(queued=100_000, places=5, wait_s=60))
    name = new_name()
    key = node.tenant(name, "100.00")
    answers: Counter[int] = Counter()
    run_ids: list[str] = []
    stop = trio.Event()

    async def send() -> None:
        async with connected(node.url, key) as client:
            while not stop.is_set():
                answer = await client.submit(inputs={"cost_usd": "0.001"})
                answers[answer.status_code] += 1
                run_ids.append(answer.json()["run_id"])
                answers[(await client.ask("GET", "/v1/budget")).status_code] += 1

    async with trio.open_nursery() as senders:
        for _ in range(SENDERS):
            senders.start_soon(send)
        for n in range(1, RELOADS + 1):
            rewrite(node, CONFIG.format(queued=100_000 + n, places=5 + n, wait_s=60))
            await told(node, "configuration reloaded", n)
        stop.set()
    async with connected(node.url, key) as client:
        ended = [(await client.ended(run_id))["status"] for run_id in run_ids]

    assert set(answers) == {200, 201}
    assert set(ended) == {"COMPLETED"}
    changed = {line["key"]: line["now"] for line in lines(node, "setting changed")}
    assert changed["runs.concurrency"] == 5 + RELOADS
    assert changed["plans.small"]["queued_runs"] == 100_000 + RELOADS
    await books_of(node).judge()


async def test_a_limit_holds_from_the_reload_on_and_a_bad_file_changes_nothing(
    fresh_node: StartNode,
) -> None:
    node = fresh_node(CONFIG.format(queued=2, places=1, wait_s=60))
    name = new_name()
    key = node.tenant(name, "10.00", plan="small")
    async with connected(node.url, key) as client:
        first = await client.submitted(inputs={"sleep_s": 600})
        await client.until_status(first["run_id"], "PROCESSING")
        before = [(await client.submit(inputs={"sleep_s": 600})).status_code for _ in range(3)]
        rewrite(node, CONFIG.format(queued=3, places=1, wait_s=30))
        await told(node, "configuration reloaded", 1)
        after = [await client.submit() for _ in range(2)]
        rewrite(node, CONFIG.format(queued='"many"', places=1, wait_s=30))
        await told(node, "reload refused", 1)
        still = await client.submit()
        waits = await client.ask("GET", f"/v1/runs/{first['run_id']}?wait=61")
    shown = node.admin("GET", "/admin/v1/config")["config"]

    assert before == [201, 201, 429]
    assert [answer.status_code for answer in after] == [201, 429]
    assert (still.status_code, problem(still)) == (429, "quota-exceeded")
    assert waits.status_code == 422  # what needs a restart is as it was
    [refused] = lines(node, "reload refused")
    assert "queued_runs" in json.dumps(refused["errors"])
    [needs] = lines(node, "setting needs a restart")
    assert (needs["key"], needs["was"], needs["now"]) == ("http.wait_max_s", 60, 30)
    assert shown["plans"]["small"]["value"]["queued_runs"] == 3
    assert shown["http"]["wait_max_s"]["value"] == 60


async def test_the_command_tells_what_a_reload_would_change(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    node = fresh_node(CONFIG.format(queued=2, places=1, wait_s=60))
    file = tmp_path / "other.toml"
    file.write_text(CONFIG.format(queued=2, places=1, wait_s=30) + "[reaper]\ninterval_s = 9\n")

    def diff(of: Path) -> tuple[int, list[Any]]:
        command = [sys.executable, "-m", "dpp", "config", "diff", "--json", "--config", str(of)]
        command += ["--data-dir", str(node.data_dir)]
        ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        return ended.returncode, json.loads(ended.stdout)["differ"]

    same = await trio.to_thread.run_sync(diff, node.home / "dpp.toml")
    other = await trio.to_thread.run_sync(diff, file)

    assert same == (0, [])
    assert [(one["key"], one["was"], one["now"], one["live"]) for one in other[1]] == [
        ("http.wait_max_s", 60, 30, False),
        ("reaper.interval_s", 5, 9, True),
    ]
    assert other[0] == 1


async def test_a_hangup_while_the_node_starts_ends_it_not(fresh_node: StartNode) -> None:
    node = fresh_node("")
    node.terminate()
    node.launch()
    await until(partial(trio.to_thread.run_sync, lambda: bool(node.lines())))
    node.signal(signal.SIGHUP)

    await trio.to_thread.run_sync(node.wait_ready)
    node.signal(signal.SIGHUP)
    await told(node, "configuration reloaded", 1)
