"""A real node whose large results lie in a bucket, and what it says while S3 is away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trio

from dpp.client import AsyncClient
from dpp.store.s3_objects import LINK_S, PREFIX, STORE_ID
from tests.aws.proxy import Fault
from tests.node_client import LOOK_S, Client, connected
from tests.node_process import NO_TLS, NodeProcess, node_process

if TYPE_CHECKING:
    from tests.aws.conftest import S3
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
MESSAGE = "x" * 100_000  # over runs.inline_max_bytes
STORM = (Fault.SLOW_DOWN, Fault.REFUSED, Fault.REPLY_LOST, Fault.CUT, Fault.TWICE)
RESULT = b'{"message":"' + MESSAGE.encode() + b'"}'


@pytest.fixture
async def node(depot: S3, fresh_node: StartNode, stopped_node: NodeProcess) -> NodeProcess:
    """A node on the bucket, which carries the id that its database knows."""
    known = (stopped_node.results / "store_id").read_bytes()
    await depot.ask("put_object", Key=STORE_ID, Body=known)
    config = f'[s3]\nbucket = "{depot.bucket}"\nendpoint_url = "{depot.proxy.url}"\n'
    return await trio.to_thread.run_sync(partial(fresh_node, config))


async def bought(node: NodeProcess, key: str) -> dict[str, Any]:
    """Buy a run with a large result; returns it, ended."""
    async with connected(node.url, key) as client:
        inputs = {"message": MESSAGE, "cost_usd": "0.001"}
        return await client.ended((await client.submitted(inputs=inputs))["run_id"])


async def told_of_s3(client: Client, how: str) -> httpx.Response:
    """Ask until readiness says so: it looks once a second."""
    while True:
        ready = await client.ask("GET", "/readyz")
        if ready.json()["services"]["s3"] == how:
            return ready
        await trio.sleep(LOOK_S)


async def test_in_a_storm_over_the_bucket_each_run_is_charged_once_and_can_be_fetched(
    node: NodeProcess, depot: S3, books_of: BooksOf
) -> None:
    """Throttled, cut, answered twice or not at all: all end, at their cost, at first attempt."""
    key = await trio.to_thread.run_sync(node.tenant, "acme")
    depot.proxy.storm(0.3, *STORM)
    async with connected(node.url, key) as client:
        inputs = {"message": MESSAGE, "cost_usd": "0.001"}
        sent = [await client.submitted(inputs=inputs) for _ in range(20)]
        runs = [await client.ended(run["run_id"]) for run in sent]
        depot.proxy.storm(0.0)
        budget = (await client.ask("GET", "/v1/budget")).json()

    assert {(run["status"], run["attempt"]) for run in runs} == {("COMPLETED", 1)}
    assert (budget["spent_usd"], budget["held_usd"]) == ("0.02", "0.00")
    assert depot.proxy.made.total() >= 12
    names = {name for name in depot.proxy.put_names() if name.startswith(PREFIX)}
    assert len(names) == 20
    await books_of(node).judge()
    await assert_fetched(node, key, runs[-1])
    await assert_traced(depot, books_of(node), runs[-1])


async def assert_fetched(node: NodeProcess, key: str, run: dict[str, Any]) -> None:
    """Its result comes from the bucket: by a link that holds for a while, and by the client."""
    url = f"{node.url}/v1/runs/{run['run_id']}/result"
    mine = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        sent = await http.get(url, headers=mine)
        there = await http.get(sent.headers["location"])
        part = await http.get(sent.headers["location"], headers={"Range": "bytes=0-9"})
        head = await http.head((await http.head(url, headers=mine)).headers["location"])
    async with AsyncClient(node.url, key) as client:
        result = await client.result(run["run_id"])

    assert (sent.status_code, there.content, part.content) == (307, RESULT, RESULT[:10])
    assert result.content == RESULT
    assert head.status_code == 200
    asked = parse_qs(urlsplit(sent.headers["location"]).query)
    assert asked["X-Amz-Expires"] == [str(LINK_S)]
    assert asked["response-content-disposition"] == [f'attachment; filename="{run["run_id"]}.json"']
    assert "X-Amz-Signature" not in node.text()


async def assert_traced(depot: S3, books: Books, run: dict[str, Any]) -> None:
    """Its object says whose it is and what it cost, where its ending points to."""
    rows = await books.rows("select run_id::text, result_key, lease_epoch from dpp.endings")
    (row,) = [row for row in rows if row["run_id"] == run["run_id"]]
    tenant, *_day, run_id, epoch = row["result_key"].split("/")
    assert tenant == hashlib.sha256(b"acme").hexdigest()[:32]
    assert (run_id, epoch) == (run["run_id"], str(row["lease_epoch"]))
    stored = await depot.ask("head_object", Key=PREFIX + row["result_key"])
    said = stored["Metadata"]
    assert stored["ServerSideEncryption"] == "AES256"
    assert (said["run-id"], said["cost-micros"], said["pack-type"]) == (run_id, "1000", "echo")
    assert said["sha256"] == hashlib.sha256(RESULT).hexdigest() == run["result_sha256"]


async def test_while_s3_is_away_large_results_wait_and_all_else_goes_on_restarts_too(
    node: NodeProcess, depot: S3, books_of: BooksOf
) -> None:
    key = await trio.to_thread.run_sync(node.tenant, "acme")
    kept = await bought(node, key)
    depot.proxy.away = True
    async with connected(node.url, key) as client:
        large = await client.submitted(inputs={"message": MESSAGE, "cost_usd": "0.001"})
        small = await client.submitted(inputs={"message": "hi", "cost_usd": "0.001"})
        ended = await client.ended(small["run_id"])
        ready = await told_of_s3(client, "down")
        served = await client.ask("GET", f"/v1/runs/{kept['run_id']}/result")
        waiting = (await client.ask("GET", f"/v1/runs/{large['run_id']}")).json()
        depot.proxy.away = False
        done = await client.ended(large["run_id"])
    depot.proxy.away = True
    await trio.to_thread.run_sync(node.terminate)
    await trio.to_thread.run_sync(node.start)
    async with connected(node.url, key) as client:
        restarted = await told_of_s3(client, "down")
        depot.proxy.away = False
        again = await client.ended((await client.submitted(inputs={"message": MESSAGE}))["run_id"])

    assert (ended["status"], waiting["status"]) == ("COMPLETED", "PROCESSING")
    assert (ready.status_code, ready.json()["degraded"]) == (200, ["s3"])
    assert served.status_code == 503
    assert (done["status"], done["attempt"]) == ("COMPLETED", 1)
    assert done["cost"]["actual_usd"] == "0.001"
    assert restarted.json()["status"] == "degraded"
    assert again["status"] == "COMPLETED"
    await books_of(node).judge()


def test_production_refuses_a_stand_in_and_static_keys_before_it_makes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only by its own setting: the driver listens to variables of its own."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    config = '[node]\nprofile = "production"\n[s3]\nbucket = "dpp-none"\nregion = "us-east-1"\n'

    with node_process(config) as node:
        node.launch()
        status, words = node.wait_ended(), node.tail()
        made = (node.data_dir / "postgres").exists()

    assert (status, made) == (78, False)
    assert "s3 endpoint: http://127.0.0.1:9 is this machine" in words
    assert "credentials: static keys: AWS_ACCESS_KEY_ID in the environment" in words
    assert "Remove the keys." in words
    assert "canary" not in words
