"""Two real nodes with one PostgreSQL and one Redis: what it gives them, and that they need it not."""  # noqa: E501

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from dpp.http.shedding import PASS_MAX, PASS_S
from dpp.store.aside import PAUSE_S
from tests.node_client import Client, connected, problem, together, until
from tests.node_process import NodeProcess, new_name, nodes_on
from tests.redis_server import RedisServer, needs_redis, redis_server

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.node_books import Books

pytestmark = needs_redis

BooksOf = Callable[[NodeProcess], "Books"]
SOON_S = 60
LOOK_S = 0.2
TRIES = 5
LATE = 'dpp_redis_faults_total{asked="count"}'
HEARD = 'dpp_hints_total{outcome="heard"}'
SHED = "dpp_submits_shed_total"  # submissions that were not brought to the database
# A place each: what one has no place for is the other's.
PLANS = """
[plans.ten]
submits_per_minute = 10
[plans.reader]
reads_per_minute = 10
[node]
drain_s = 1
[runs]
concurrency = 1
"""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def pair(database: Database, redis: RedisServer) -> AsyncIterator[list[NodeProcess]]:
    """Give two nodes that run, and hear each other."""
    config = f'{PLANS}\n[redis]\nurl = "{redis.url}"\n'
    with nodes_on(database.host, database.name, config, config) as nodes:
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(trio.to_thread.run_sync, node.start)
        for node in nodes:
            await until_redis(node, "up")
        yield nodes


async def until_redis(node: NodeProcess, state: str) -> dict[str, Any]:
    """Wait until the node says so of Redis; returns all that it says."""
    async with connected(node.url, None) as client:
        with trio.fail_after(SOON_S):
            while True:
                said: dict[str, Any] = (await client.ask("GET", "/readyz")).json()
                if said["services"]["redis"] == state:
                    return said
                await trio.sleep(LOOK_S)


def statuses(answers: list[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in answers)


async def test_two_nodes_keep_one_limit_and_hear_each_others_news(
    pair: list[NodeProcess], books_of: BooksOf
) -> None:
    """That they hear it sooner than by polling is measured (bench.waiters), not asserted."""
    await limits_are_one(*pair)
    heard = [node.counted(HEARD) for node in pair]
    await news_are_heard(*pair)

    assert all(node.counted(HEARD) > before for node, before in zip(pair, heard, strict=True))
    await books_of(pair[0]).judge()


async def limits_are_one(first: NodeProcess, second: NodeProcess) -> None:
    """Of 20 at once at two nodes the limit is allowed; the database is spared the flood after."""
    key = first.tenant(plan="ten")
    async with connected(first.url, key) as one, connected(second.url, key) as other:
        submits = statuses(await together(*[one.submit, other.submit] * 10))
        shed, began_at = second.counted(SHED), trio.current_time()
        flood = await together(*[other.submit] * 200)
        took_s = trio.current_time() - began_at
        shed = second.counted(SHED) - shed
        listed = await one.get("/v1/runs", limit=100)
    reads = await reads_of_20(first, second)

    assert submits == {201: 10, 429: 10}
    assert statuses(flood) == {429: 200}
    assert {problem(answer) for answer in flood} == {"quota-exceeded"}
    assert {answer.headers["ratelimit-policy"] for answer in flood} == {'"submit";q=10;w=60'}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in flood)
    assert 200 - shed <= PASS_MAX + took_s / PASS_S + 1
    assert statuses(reads) == {200: 10, 429: 10}
    assert len(listed["items"]) == 10


async def reads_of_20(first: NodeProcess, second: NodeProcess) -> list[httpx.Response]:
    """Read 20 times at once at two nodes. On a busy machine Redis may be late: then once more."""
    for _ in range(TRIES):
        key = first.tenant(plan="reader")
        before = [node.counted(LATE) for node in (first, second)]
        async with connected(first.url, key) as here, connected(second.url, key) as there:
            asked = [partial(client.ask, "GET", "/v1/budget") for client in (here, there)]
            reads = await together(*asked * 10)
        if [node.counted(LATE) for node in (first, second)] == before:
            return reads
        await trio.sleep(PAUSE_S)
    raise AssertionError(f"Redis was late {TRIES} times running")


async def news_are_heard(first: NodeProcess, second: NodeProcess) -> None:
    """Runs that wait, end or are cancelled at one node, and a key that ends there."""
    name = new_name()
    key = first.tenant(name)
    async with connected(first.url, key) as one, connected(second.url, key) as other:
        runs = [(await one.submitted(inputs={"sleep_s": 600}))["run_id"] for _ in range(2)]
        for run_id in runs:  # each node has a place for one
            await one.until_status(run_id, "PROCESSING")
        for run_id in runs:
            await other.cancel(run_id)
            assert [(await c.ended(run_id))["status"] for c in (one, other)] == ["CANCELED"] * 2
        spare = first.new_key(name)
        async with connected(second.url, spare) as soon, connected(first.url, spare) as now:
            assert not await is_refused(soon)
            assert not await is_refused(now)
            [made] = [k for k in (await one.get("/v1/keys"))["items"] if k["key_id"] in spare]
            await one.ask("DELETE", f"/v1/keys/{made['key_id']}")
            assert await is_refused(now)
            assert await until(partial(is_refused, soon))


async def is_refused(client: Client) -> bool:
    return (await client.ask("GET", "/v1/budget")).status_code == 401


def kill(redis: RedisServer) -> None:
    redis.kill()


def freeze(redis: RedisServer) -> None:
    redis.freeze()


def fill(redis: RedisServer) -> None:
    redis.ask("CONFIG", "SET", "maxmemory", "1")


def lock(redis: RedisServer) -> None:
    redis.kill()
    redis.start("--requirepass", "another")


def put_right(redis: RedisServer, trouble: Callable[[RedisServer], None]) -> None:
    """Undo a trouble; after all but one Redis is empty."""
    if trouble is freeze:
        redis.thaw()
    else:
        if trouble is not kill:
            redis.kill()
        redis.start()


async def test_whatever_redis_does_runs_end_reads_are_answered_and_the_books_are_right(
    pair: list[NodeProcess], redis: RedisServer, books_of: BooksOf
) -> None:
    key = pair[0].tenant()
    async with connected(pair[0].url, key) as one, connected(pair[1].url, key) as other:
        for trouble in (kill, freeze, fill, lock):
            trouble(redis)
            runs = [await client.submitted() for client in (one, other, one, other)]
            ended = [await other.ended(run["run_id"]) for run in runs]
            said = [await until_redis(node, "down") for node in pair]
            put_right(redis, trouble)
            again = [await until_redis(node, "up") for node in pair]

            assert {run["status"] for run in ended} == {"COMPLETED"}, trouble.__name__
            for document in said:
                assert document["status"] == "degraded"
                assert document["degraded"] == ["redis"]
                assert document["services"]["database"] == "up"
            assert {document["status"] for document in again} == {"ready"}
        redis.ask("FLUSHALL")
        redis.ask("PUBLISH", "dpp:hints", "nonsense")
        last = await one.submitted()
        assert (await other.ended(last["run_id"]))["status"] == "COMPLETED"
    await books_of(pair[0]).judge()
    warned = [line for line in pair[0].lines() if line["event"] == "redis unavailable"]
    assert len(warned) >= 4
    assert {line["level"] for line in warned} == {"warning"}
    assert not [line for line in pair[0].lines() if line["level"] in {"error", "critical"}]
