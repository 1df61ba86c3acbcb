"""The log of a real node: one trace through all who work on a run, what people grep, no secrets."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.node_client import Client, connected, send_raw, submission, until
from tests.node_process import NodeProcess, new_name

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
BY = "b7ad6b7169203331"


@pytest.fixture
async def client(served_node: NodeProcess) -> AsyncIterator[Client]:
    name = new_name()
    async with connected(served_node.url, served_node.tenant(name), name) as one:
        yield one


async def lines_of(node: NodeProcess, run_id: str, last: str) -> list[dict[str, Any]]:
    """Return the lines of a run, once the `last` of them is there."""

    async def look() -> list[dict[str, Any]] | None:
        lines = [line for line in node.lines() if line.get("run_id") == run_id]
        return lines if any(line["event"] == last for line in lines) else None

    return await until(look)


async def test_one_trace_leads_from_the_request_to_the_settlement(
    served_node: NodeProcess, client: Client
) -> None:
    traced = {"traceparent": f"00-{TRACE_ID}-{BY}-01"}

    run = (await client.submit(headers=traced, inputs={"cost_usd": "0.001"})).json()
    lines = await lines_of(served_node, run["run_id"], "run ended")

    assert run["trace_id"] == TRACE_ID
    assert {line["event"] for line in lines} == {
        "run submitted",  # HTTP
        "run admitted",  # intake, after its commit
        "run started",  # executor, once the claim was answered
        "run ended",  # executor, once the settler had answered
    }
    assert {line.get("trace_id") for line in lines} == {TRACE_ID}
    by_event = {line["event"]: line for line in lines}
    assert by_event["run ended"]["status"] == "COMPLETED"
    assert by_event["run ended"]["cost_micros"] == 1000
    assert by_event["run submitted"]["tenant_id"] == client.name
    assert by_event["run admitted"]["tenant_id"] == client.name


async def test_every_run_of_a_batch_has_the_trace_of_its_request(
    served_node: NodeProcess, client: Client
) -> None:
    answer = await client.ask(
        "POST",
        "/v1/runs:batch",
        json={"runs": [submission(idempotency_key=f"t-{n}") for n in range(3)]},
        headers={"traceparent": f"00-{TRACE_ID[::-1]}-{BY}-01"},
    )
    runs = [item["run"] for item in answer.json()["items"]]
    lines = [await lines_of(served_node, run["run_id"], "run ended") for run in runs]

    assert {run["trace_id"] for run in runs} == {TRACE_ID[::-1]}
    assert {line["trace_id"] for some in lines for line in some} == {TRACE_ID[::-1]}


async def test_a_request_without_a_trace_starts_one(
    served_node: NodeProcess, client: Client
) -> None:
    runs = [await client.submitted() for _ in range(2)]
    lines = [await lines_of(served_node, run["run_id"], "run ended") for run in runs]

    traces = [run["trace_id"] for run in runs]
    assert len({*traces}) == 2
    assert {len(trace) for trace in traces} == {32}
    assert [{line["trace_id"] for line in some} for some in lines] == [{t} for t in traces]


@pytest.mark.parametrize("event", ["heartbeat", "reaper scan"])
async def test_what_people_grep_is_said_at_info(served_node: NodeProcess, event: str) -> None:
    async def look() -> list[dict[str, Any]]:
        return [line for line in served_node.lines() if line["event"] == event]

    lines = await until(look)  # one in ten seconds, one in five

    assert {line["level"] for line in lines} == {"info"}


async def test_planted_secrets_never_stand_in_the_log(
    served_node: NodeProcess, client: Client
) -> None:
    assert client.key is not None
    password, token = secrets.token_hex(12), secrets.token_urlsafe(32)
    basic = base64.b64encode(f"acme:{password}".encode()).decode()
    wrong = client.key[:-1] + ("a" if client.key[-1] != "a" else "b")
    canaries = {
        client.key,
        client.key[22:65],
        wrong,
        password,
        token,
        basic,
        served_node.admin_token,
    }

    await client.submitted(inputs={"message": {"api_key": client.key, "password": password}})
    for header in (
        f"Bearer {wrong}",
        f"Basic {basic}",
        f"Bearer {token}",
        token,
        f"Bearer {client.key} x",
    ):
        await client.ask("GET", "/v1/budget", headers={"Authorization": header})
    await client.ask("GET", "/v1/budget", params={"api_key": client.key, "token": token})
    await client.ask("GET", f"/v1/runs/{client.key}")
    await client.ask("GET", f"/no/such/path/{client.key}")
    await client.ask("POST", "/v1/runs", content=f'{{"token": "{token}"'.encode())
    await client.submit(idempotency_key=token, headers={"X-Request-Id": client.key})
    await client.submit(headers={"Cookie": f"session={token}", "X-Api-Key": token})
    for line in (
        f"Authorization : Bearer {client.key}",
        f"Authorization: Bearer {client.key}\n",
        f"X-Long: {client.key * 300}",
    ):
        await send_raw(served_node.url, f"GET / HTTP/1.1\r\nHost: dpp\r\n{line}\r\n\r\n".encode())
    for bearer in (token, served_node.admin_token):
        await client.http.get(
            f"{served_node.management_url}/admin/v1/tenants?token={token}",
            headers={"Authorization": f"Bearer {bearer}", "X-Request-Id": bearer},
        )
    await client.ended((await client.submitted())["run_id"])  # what was before is written

    log = served_node.text()
    assert {canary for canary in canaries if canary in log} == set()


async def test_every_line_is_one_json_object_with_time_level_and_event(
    served_node: NodeProcess, client: Client
) -> None:
    await client.submitted(inputs={"message": "a\nb\u2028c\x1b[31m"})
    await client.ask("GET", "/v1/runs/%0a%1b[31m")
    run = await client.submitted()
    await lines_of(served_node, run["run_id"], "run ended")

    for line in served_node.lines():
        assert {"timestamp", "level", "event", "logger"} <= set(line)
