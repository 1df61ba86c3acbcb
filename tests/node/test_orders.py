"""Modes and drains, asked through one node and felt by all; real nodes on one database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import httpx
import trio

from tests.node_client import connected, submission, until
from tests.node_process import NO_TLS, NodeProcess, nodes_on

if TYPE_CHECKING:
    from tests.conftest import Database, StartNode
    from tests.node.test_drain import BooksOf

CONFIG = """
[node]
drain_s = 1
"""
LONG = {"sleep_s": 600}


def ready(node: NodeProcess) -> dict[str, Any]:
    answer = httpx.get(f"{node.url}/readyz", timeout=5, trust_env=False, verify=NO_TLS)
    return {"status_code": answer.status_code, **answer.json()}


def set_mode(node: NodeProcess, mode: str, **members: Any) -> dict[str, Any]:
    return node.admin("PUT", "/admin/v1/mode", {"mode": mode, "reason": "maintenance", **members})


def state(through: NodeProcess, node: NodeProcess) -> str:
    found: str = through.admin("GET", f"/admin/v1/nodes/{node.node_id}")["state"]
    return found


async def test_a_mode_asked_of_one_node_holds_at_all_from_its_commit_on(
    database: Database, books_of: BooksOf
) -> None:
    with nodes_on(database.host, database.name, CONFIG, CONFIG) as (one, other):
        one.start(), other.start()
        books = books_of(one)
        key = one.tenant("acme", plan="basic")
        async with connected(other.url, key) as client:
            known = await client.submitted(idempotency_key="known")
            set_mode(one, "no-submit", expires_in_s=3600)

            refused = await client.submit()
            assert (refused.status_code, refused.json()["title"] != "") == (503, True)
            assert 3500 < int(refused.headers["Retry-After"]) <= 3600
            (item,) = await client.batch([{**submission(), "idempotency_key": "new"}])
            assert item["status"] == 503
            replay = await client.submit(idempotency_key="known")
            assert (replay.status_code, replay.json()["run_id"]) == (201, known["run_id"])

            shown = set_mode(one, "drain")
            assert [change["mode"] for change in shown["changes"]] == ["drain", "no-submit"]

            async def felt() -> bool:
                return all(ready(node).get("mode") == "drain" for node in (one, other))

            await until(felt)
            waiting = await client.submitted()
            looked = await client.get(f"/v1/runs/{waiting['run_id']}", wait=1)
            assert looked["status"] == "QUEUED"
            set_mode(other, "normal")
            assert (await client.ended(waiting["run_id"]))["status"] == "COMPLETED"
        await books.judge()


async def test_a_node_that_drains_gives_its_runs_to_others_and_works_again_when_it_may(
    database: Database, books_of: BooksOf
) -> None:
    with nodes_on(database.host, database.name, CONFIG, CONFIG) as (one, other):
        one.start()
        books = books_of(one)
        key = one.tenant("acme", plan="basic")
        async with connected(one.url, key) as client:
            run = await client.submitted(inputs={**LONG, "cost_usd": "0.001"})
            await client.until_status(run["run_id"], "PROCESSING")
            other.start()
            path = f"/admin/v1/nodes/{one.node_id}"
            asked = other.admin("POST", f"{path}:drain", {"reason": "upgrade"})
            assert asked["state"] == "draining"
            assert asked["drain"]["reason"] == "upgrade"

            async def handed_over() -> bool:
                return state(other, one) == "drained"

            await until(handed_over)
            assert ready(one)["status_code"] == 503
            assert ready(other)["status"] == "ready"
            again = await client.until_status(run["run_id"], "PROCESSING")
            assert again["attempt"] == 1  # it serves requests as before, and the run lost nothing
            (await client.ask("POST", f"/v1/runs/{run['run_id']}:cancel")).raise_for_status()
            assert (await client.ended(run["run_id"]))["status"] == "CANCELED"

            one.kill9()
            other.admin("PUT", "/admin/v1/mode", {"mode": "normal", "reason": "no matter"})
            one.launch()
            other.admin("POST", f"{path}:undrain", {})
            one.wait_ready()
            assert state(other, one) == "working"
        await books.judge()


async def test_a_node_alone_that_was_restarted_in_its_drain_is_undrained_by_its_own_commands(
    fresh_node: StartNode,
) -> None:
    node = fresh_node(CONFIG)
    node.admin("POST", f"/admin/v1/nodes/{node.node_id}:drain", {"reason": "upgrade"})

    async def drained() -> bool:
        return state(node, node) == "drained"

    await until(drained)
    node.terminate()
    node.launch()

    async def asked() -> bool:
        return await dpp(node, "list") == 0

    await until(asked)
    assert await dpp(node, "undrain", node.node_id) == 0
    node.wait_ready()
    assert state(node, node) == "working"


async def dpp(node: NodeProcess, *arguments: str) -> int:
    command = [sys.executable, "-m", "dpp", "node", *arguments, "--data-dir", str(node.data_dir)]
    return (await trio.run_process(command, check=False, capture_stdout=True)).returncode


async def test_a_node_is_listed_with_what_it_last_said(fresh_node: StartNode) -> None:
    node = fresh_node()

    async def reported() -> bool:
        return bool(node.admin("GET", "/admin/v1/nodes")["items"][0]["loops"])

    await until(reported)
    (listed,) = node.admin("GET", "/admin/v1/nodes")["items"]

    assert (listed["node_id"], listed["state"]) == (node.node_id, "working")
    assert {"reaper", "tenure", "orders"} <= listed["loops"].keys()
    assert (listed["runs"], listed["concurrency"]) == (0, 500)
    assert node.ask_admin("GET", "/admin/v1/nodes/nobody").status_code == 404
