"""A real node with a queue of hints: what goes through it, and that nothing needs it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.store.sqs import WAIT_S
from tests.aws.post import POISON, Post
from tests.node_client import LOOK_S, Client, connected

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books
    from tests.node_process import NodeProcess

BooksOf = Callable[["NodeProcess"], "Books"]
CONFIG = """
[node]
drain_s = 1
[sqs]
queue_url = "{url}"
endpoint_url = "{proxy}"
"""


@pytest.fixture
async def node(post: Post, fresh_node: StartNode) -> NodeProcess:
    config = CONFIG.format(url=post.url, proxy=post.proxy.url)
    return await trio.to_thread.run_sync(partial(fresh_node, config))


async def told_of_sqs(client: Client, how: str) -> dict[str, Any]:
    """Ask until readiness says so."""
    with trio.fail_after(60):
        while True:
            ready = await client.ask("GET", "/readyz")
            said: dict[str, Any] = ready.json()
            if said["services"]["sqs"] == how:
                assert ready.status_code == 200
                return said
            await trio.sleep(LOOK_S)


async def test_each_run_is_told_of_poison_stays_and_a_drain_waits_for_no_poll(
    node: NodeProcess, post: Post, books_of: BooksOf
) -> None:
    key = await trio.to_thread.run_sync(node.tenant)
    await post.put(POISON[0])
    async with connected(node.url, key) as client:
        runs = [await client.submitted() for _ in range(12)]
        ended = [await client.ended(run["run_id"]) for run in runs]
        tomorrow = datetime.fromisoformat(runs[0]["created_at"]) + timedelta(days=1)
        later = await client.submitted(run_at=tomorrow.isoformat())
        ready = await told_of_sqs(client, "up")
        await post.until_lie(1)
    said = {
        outcome: node.counted(f'dpp_sqs_messages_total{{outcome="{outcome}"}}')
        for outcome in ("sent", "lost", "read", "unread")
    }
    await books_of(node).judge()
    before = trio.current_time()
    await trio.to_thread.run_sync(node.terminate)
    drained_s = trio.current_time() - before

    assert {run["status"] for run in ended} == {"COMPLETED"}
    assert later["status"] == "QUEUED"
    assert ready["status"] == "ready"
    assert said == {"sent": 12, "lost": 0, "read": 12, "unread": 1}
    assert drained_s < WAIT_S, "the drain waited for a long poll"


async def test_while_sqs_is_away_runs_end_and_the_node_says_degraded(
    node: NodeProcess, post: Post, books_of: BooksOf
) -> None:
    key = await trio.to_thread.run_sync(node.tenant)
    async with connected(node.url, key) as client:
        await told_of_sqs(client, "up")
        post.proxy.away = True
        runs = [await client.submitted() for _ in range(5)]
        ended = [await client.ended(run["run_id"]) for run in runs]
        away = await told_of_sqs(client, "down")
        post.proxy.away = False
        back = await told_of_sqs(client, "up")
        last = await client.ended((await client.submitted())["run_id"])

    assert {run["status"] for run in [*ended, last]} == {"COMPLETED"}
    assert (away["status"], away["degraded"]) == ("degraded", ["sqs"])
    assert away["services"]["database"] == "up"
    assert back["status"] == "ready"
    warned = [line["level"] for line in node.lines() if line["event"] == "sqs unavailable"]
    assert set(warned) == {"warning"}
    assert not [line for line in node.lines() if line["level"] in {"error", "critical"}]
    await books_of(node).judge()
