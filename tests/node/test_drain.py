"""SIGTERM: the orderly end of a node, under load, twice, and before it was ready."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.node.load import Load
from tests.node_client import Client, connected, submission, until
from tests.node_process import NodeProcess

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
SEED = 20260214
LONG = {"sleep_s": 600}
# Runs get a second and a half to end; the drain itself is what is looked at.
SHORT_DRAIN = "[node]\ndrain_s = 2\n"


async def ended(node: NodeProcess) -> int:
    """Wait for the end of the process; returns its status."""
    return await trio.to_thread.run_sync(node.wait_ended)


async def said(node: NodeProcess, event: str) -> bool:
    """Say whether the node has logged this since its start."""
    await trio.lowlevel.checkpoint()
    return any(line["event"] == event for line in node.lines())


def assert_all_gone(node: NodeProcess) -> None:
    """Nothing of the node runs, and nothing says that it does."""
    assert node.postmasters() == []
    assert not (node.data_dir / "postgres" / "postmaster.pid").exists()
    assert not (node.data_dir / "node.json").exists()


async def test_drain_answers_waiters_lets_short_runs_end_and_hands_back_the_rest(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node(SHORT_DRAIN)
    books = books_of(node)
    waited: list[httpx.Response] = []
    async with connected(node.url, node.tenant("acme", plan="basic")) as client:
        long = [await client.submitted(inputs={**LONG, "cost_usd": "0.001"}) for _ in range(5)]
        for run in long:
            await client.until_status(run["run_id"], "PROCESSING")
        short = await client.submitted(inputs={"sleep_s": 1, "message": "done"})
        await client.until_status(short["run_id"], "PROCESSING")

        async def wait(run_id: str) -> None:
            waited.append(await client.ask("GET", f"/v1/runs/{run_id}", params={"wait": 60}))

        left, looks = await reads_left(client), count(1)  # each look is a read too

        async def all_wait() -> bool:
            return left - await reads_left(client) - next(looks) == len(long)

        async with trio.open_nursery() as waiters:
            for run in long:
                waiters.start_soon(wait, run["run_id"])
            await until(all_wait)
            node.signal(signal.SIGTERM)
        status = await ended(node)

    assert status == 0
    assert [(one.status_code, one.json()["status"]) for one in waited] == [(200, "PROCESSING")] * 5
    assert_all_gone(node)

    node.start()
    # No lease row was left behind, and nothing was spent: nobody died here.
    await until(partial(said, node, "earlier leases ended"))
    assert [line["leases"] for line in node.lines() if line["event"] == "earlier leases ended"] == [
        0
    ]
    async with connected(node.url, node.new_key("acme")) as client:
        done = await client.run(short["run_id"])
        for run in long:
            again = await client.until_status(run["run_id"], "PROCESSING")
            assert again["attempt"] == 1
        spent = await books.rows("select attempts_spent, lease_epoch from dpp.live_runs")
        for run in long:
            await client.cancel(run["run_id"])
        canceled = [await client.ended(run["run_id"]) for run in long]

    assert (done["status"], done["attempt"], done["result"]) == (
        "COMPLETED",
        1,
        {"message": "done"},
    )
    assert [tuple(row) for row in spent] == [(0, 2)] * 5
    assert {(run["status"], run["attempt"]) for run in canceled} == {("CANCELED", 1)}
    await books.judge()


async def reads_left(client: Client) -> int:
    """Return how many reads the plan leaves, this one included in the count."""
    answer = await client.ask("GET", "/v1/budget")
    return int(answer.headers["ratelimit"].partition("r=")[2].partition(";")[0])


async def test_drain_under_load_loses_nothing(fresh_node: StartNode, books_of: BooksOf) -> None:
    node = fresh_node(SHORT_DRAIN)
    books = books_of(node)
    load = Load({f"acme-{n}": node.tenant(f"acme-{n}", "100.00") for n in range(3)}, Random(SEED))
    stop = trio.Event()
    async with trio.open_nursery() as senders:
        for tenant in (*load.tenants, *load.tenants):
            senders.start_soon(load.send, node.url, tenant, stop)
        await until(partial(acknowledged, load, 100))
        node.signal(signal.SIGTERM)
        assert await ended(node) == 0
        stop.set()
    assert_all_gone(node)
    print(f"{len(load.asked)} asked, {load.refused} refused, {load.lost} not answered")  # noqa: T201

    node.start()
    await load.replay(node.url)
    await load.check(node.url)
    spent = await books.value("select count(*) from dpp.endings where attempts_spent > 0")

    assert spent == 0
    await books.judge()


async def acknowledged(load: Load, count: int) -> bool:
    """Say whether that many runs were acknowledged."""
    await trio.lowlevel.checkpoint()
    return sum(asked.run_id is not None for asked in load.asked) >= count


async def test_submission_that_meets_the_drain_is_503_and_safe_to_retry(
    fresh_node: StartNode,
) -> None:
    node = fresh_node(SHORT_DRAIN)
    key = node.tenant("acme")
    answers: list[httpx.Response] = []
    async with connected(node.url, key) as client:
        # Its head is there and its body is not when the drain begins: a request in work.
        target = httpx.URL(node.url)
        async with await trio.open_tcp_stream(target.host, target.port) as stream:
            body = b'{"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.01"}'
            head = (
                f"POST /v1/runs HTTP/1.1\r\nHost: dpp\r\nAuthorization: Bearer {key}\r\n"
                "Idempotency-Key: late\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            await stream.send_all(head.encode())
            answers.append(await client.ask("GET", "/readyz"))  # the head was read before this one
            node.signal(signal.SIGTERM)
            await until(partial(said, node, "draining"))
            await stream.send_all(body)
            with trio.fail_after(30):
                answer = b""
                while data := await stream.receive_some(65536):
                    answer += data
    assert await ended(node) == 0

    head_of, _, _ = answer.partition(b"\r\n\r\n")
    assert head_of.startswith(b"HTTP/1.1 503 "), answer
    assert b"retry-after: " in head_of.lower()
    node.start()
    async with connected(node.url, node.new_key("acme")) as client:
        found = await client.get("/v1/runs", idempotency_key="late")
        again = await client.submit(idempotency_key="late")
    assert found["items"] == []
    assert again.status_code == 201


async def test_second_sigterm_shortens_the_drain(fresh_node: StartNode, books_of: BooksOf) -> None:
    node = fresh_node("[node]\ndrain_s = 80\n")  # longer than anyone here waits for an end
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        run = await client.submitted(inputs={**LONG, "cost_usd": "0.001"})
        await client.until_status(run["run_id"], "PROCESSING")

        node.signal(signal.SIGTERM)
        await until(partial(said, node, "draining"))
        node.signal(signal.SIGTERM)
        status = await ended(node)

    assert status == 0
    assert_all_gone(node)
    node.start()
    async with connected(node.url, node.new_key("acme")) as client:
        again = await client.until_status(run["run_id"], "PROCESSING")
        await client.cancel(run["run_id"])
        await client.ended(run["run_id"])
    # Hurried, but in order: nobody died, so no attempt is spent.
    assert again["attempt"] == 1
    await books.judge()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle_node_ends_at_once(fresh_node: StartNode, number: signal.Signals) -> None:
    node = fresh_node()
    async with connected(node.url) as client:
        await client.ask("GET", "/health")  # a connection that stays open, with nothing to say

        node.signal(number)
        assert await ended(node) == 0

    assert_all_gone(node)
    assert [line["event"] for line in node.lines()][-1] == "stopped"


@pytest.mark.parametrize("event", ["making a new database", "schema migrated", "lease taken"])
async def test_sigterm_during_the_first_start_ends_it_in_order(
    fresh_node: StartNode, books_of: BooksOf, event: str
) -> None:
    node = fresh_node(start=False)
    node.launch()
    await until(partial(said, node, event))

    node.signal(signal.SIGTERM)

    assert await ended(node) == 0
    assert_all_gone(node)
    await works(node.start(), books_of)


@pytest.mark.parametrize("round_", range(2))
async def test_sigterm_at_any_moment_of_a_start_leaves_nothing_behind(
    fresh_node: StartNode, books_of: BooksOf, round_: int
) -> None:
    after_s = Random(SEED + round_).uniform(0, 0.9)
    print(f"SIGTERM after {after_s:.2f} s")  # noqa: T201
    node = fresh_node()
    node.terminate()
    node.launch()
    await trio.sleep(after_s)

    node.signal(signal.SIGTERM)

    # Before the node has said what it does on a signal, the kernel does what it always does.
    assert await ended(node) in {0, -signal.SIGTERM}
    assert_all_gone(node)
    await works(node.start(), books_of)


async def works(node: NodeProcess, books_of: BooksOf) -> None:
    """Submit a run and see it through."""
    async with connected(node.url, node.tenant("acme")) as client:
        run = await client.ended((await client.submitted())["run_id"])
    assert run["status"] == "COMPLETED"
    await books_of(node).judge()


async def test_queued_runs_wait_for_the_next_start(fresh_node: StartNode) -> None:
    node = fresh_node(SHORT_DRAIN + "[runs]\nconcurrency = 1\n")
    async with connected(node.url, node.tenant("acme")) as client:
        first = await client.submitted(inputs=LONG)
        await client.until_status(first["run_id"], "PROCESSING")
        items = await client.batch(
            [submission(idempotency_key=f"q-{n}", inputs={"message": n}) for n in range(20)]
        )

    assert await trio.to_thread.run_sync(node.terminate) == 0
    node.start()

    async with connected(node.url, node.new_key("acme")) as client:
        before = [await client.run(item["run"]["run_id"]) for item in items]
        await client.cancel(first["run_id"])
        results = [(await ended_of(client, item))["result"] for item in items]
    assert {run["attempt"] for run in before} == {1}
    assert results == [{"message": n} for n in range(20)]


async def ended_of(client: Client, item: dict[str, Any]) -> dict[str, Any]:
    """Wait for the run of an item."""
    return await client.ended(item["run"]["run_id"])
