"""A real node that dies while what is past retention leaves: nothing of the books goes with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import trio

from dpp.failpoints import KILLED, MOMENTS
from tests.node_books import audit_of
from tests.node_client import connected, until

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books
    from tests.node_process import NodeProcess

SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
ALL = os.environ.get("DPP_FAILPOINTS") == "all"
POINTS = [f"{name}.{moment}" for name in ("close_books", "prune") for moment in MOMENTS]
RUNS = 12
# All that was done so far was done five hundred days ago: whole days, so each stays in its own.
LONG_AGO = """
set session_replication_role = replica;
update dpp.submissions set created_at = created_at - interval '500 days',
  expires_at = expires_at - interval '500 days', budget_day = budget_day - 500;
update dpp.endings set started_at = started_at - interval '500 days',
  finished_at = finished_at - interval '500 days';
update dpp.transfers set created_at = created_at - interval '500 days';
update dpp.usage_days set day = day - 500;
update dpp.budgets set spend_day = spend_day - 500;
"""
LEFT = "select count(*) from dpp.submissions"


def armed(point: str) -> str:
    """Return a configuration with this failpoint."""
    return f'[runs]\nkey_retention_days = 600\n[testing]\nfailpoints = ["{point}:exit"]\n'


async def test_killed_while_runs_leave_the_books_prove_and_the_keys_are_known(
    fresh_node: StartNode, books_of: Callable[[NodeProcess], Books]
) -> None:
    node = fresh_node()
    books, key = books_of(node), node.tenant("acme", "10.00")
    bodies = [{"inputs": {"message": f"{n}", "cost_usd": "0.01"}} for n in range(RUNS)]
    async with connected(node.url, key) as client:
        run_ids = [
            (await client.submitted(idempotency_key=f"order-{n}", **body))["run_id"]
            for n, body in enumerate(bodies)
        ]
        for run_id in run_ids:
            await client.ended(run_id)
        budget = await client.get("/v1/budget")
    await books.execute(LONG_AGO)
    node.terminate()
    print(f"DPP_TEST_SEED={SEED}")
    some = POINTS if ALL else Random(SEED).sample(POINTS, 2)
    points = sorted(some, key=POINTS.index)  # once books are closed, that is not reached again

    died = {}
    for point in points:
        node.config = armed(point)
        node.launch()
        died[point] = await trio.to_thread.run_sync(node.wait_ended)
    node.config = "[runs]\nkey_retention_days = 600\n"
    node.start()

    async def all_left() -> bool:
        return bool(await books.value(LEFT) == 0)

    await until(all_left)
    async with connected(node.url, key) as client:
        replays = [
            await client.submit(idempotency_key=f"order-{n}", **body)
            for n, body in enumerate(bodies)
        ]
        reads = [await client.ask("GET", f"/v1/runs/{run_id}/receipt") for run_id in run_ids]
        after = await client.get("/v1/budget")
        listed = await client.get("/v1/transfers")
    assert died == dict.fromkeys(points, KILLED)
    assert await trio.to_thread.run_sync(partial(audit_of, node)) == []
    assert after == budget
    assert [one["kind"] for one in listed["items"]] == ["deposit"]
    assert [answer.status_code for answer in replays] == [410] * RUNS
    assert [answer.status_code for answer in reads] == [410] * RUNS
    assert [answer.json()["run_id"] for answer in replays] == run_ids
