"""What answers carry, whatever their status: ids, rates, CORS, security, and HEAD and OPTIONS."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from tests.http.api.conftest import NewTenant
from tests.node_client import Client
from tests.node_process import NO_TLS, NodeProcess

ORIGIN = "https://app.example.com"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
# One request for each kind of answer there is: of a row, of the gate, of the pages, of no row.
ASKED: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/", {}, 200),
    ("GET", "/health", {}, 200),
    ("GET", "/v1/budget", {}, 200),
    ("POST", "/v1/runs", {"json": {}}, 400),
    ("POST", "/v1/runs", {"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
    ("GET", "/v1/budget", {"headers": {"Authorization": "Bearer x"}}, 401),
    ("GET", "/v1/runs/none", {}, 404),
    ("GET", "/v1/none", {}, 404),
    ("GET", "/none", {}, 404),
    ("PUT", "/v1/runs", {}, 405),
    ("GET", "/v1/budget", {"headers": {"Accept": "text/html"}}, 406),
    ("GET", "/" + "a" * 9000, {}, 414),
    ("GET", "/v1/runs", {"params": {"limit": 0}}, 422),
    ("GET", "/", {"headers": {"X-Large": "x" * 17_000}}, 431),
    ("OPTIONS", "/v1/runs", {}, 204),
]
UNREAD = {414, 431}  # a head that is not read to its end names no origin


def asked(value: object) -> str | None:
    return None if isinstance(value, dict) else str(value)[:20]


async def ask(
    client: Client, method: str, path: str, more: dict[str, Any], **headers: str
) -> httpx.Response:
    return await client.ask(
        method, path, **{**more, "headers": {**more.get("headers", {}), **headers}}
    )


@pytest.mark.parametrize(("method", "path", "more", "status"), ASKED, ids=asked)
async def test_every_answer_is_dressed(
    shared: Client, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = await ask(shared, method, path, more, Origin=ORIGIN)
    foreign = await ask(shared, method, path, more, Origin="https://evil.example.com")

    assert answer.status_code == status
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "origin" in answer.headers["vary"].lower()
    if status not in UNREAD:
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "retry-after" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-origin" not in foreign.headers
    assert "origin" in foreign.headers["vary"].lower()
    assert "server" not in answer.headers


@pytest.mark.parametrize("sent", ["a", "x" * 128, "req-1._~Z"])
async def test_safe_request_id_is_echoed(shared: Client, sent: str) -> None:
    answers = [
        await shared.ask("GET", path, headers={"X-Request-Id": sent})
        for path in ("/", "/v1/none", "/none", "/v1/budget")
    ]

    assert {answer.headers["x-request-id"] for answer in answers} == {sent}
    assert answers[1].json()["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a;b", "<x>", "a/b"])
async def test_other_request_id_is_replaced(shared: Client, sent: str) -> None:
    answer = await shared.ask("GET", "/v1/none", headers={"X-Request-Id": sent})

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize(
    ("sent", "heeded"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01-more", True),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (TRACE, False),
        ("", False),
    ],
)
async def test_trace_of_the_client_goes_on_where_it_is_one(
    acme: Client, sent: str, *, heeded: bool
) -> None:
    run = (await acme.submit(headers={"traceparent": sent})).json()

    assert re.fullmatch("[0-9a-f]{32}", run["trace_id"])
    assert (run["trace_id"] == TRACE) is heeded


async def test_rates_are_told_of_what_they_apply_to(new_tenant: NewTenant) -> None:
    client = await new_tenant(plan="basic")

    submits = [await client.submit() for _ in range(2)]
    reads = [await client.ask("GET", path) for path in ("/v1/budget", "/v1/runs", "/v1/transfers")]
    neither = [await client.ask("GET", "/"), await client.cancel(submits[0].json()["run_id"])]

    assert [a.headers["ratelimit"] for a in submits] == ['"submit";r=59;t=60', '"submit";r=58;t=60']
    assert {a.headers["ratelimit-policy"] for a in submits} == {'"submit";q=60;w=60'}
    assert [a.headers["ratelimit"] for a in reads] == [
        f'"read";r={left};t=60' for left in (599, 598, 597)
    ]
    assert {a.headers["ratelimit-policy"] for a in reads} == {'"read";q=600;w=60'}
    assert [a.headers.get("ratelimit") for a in neither] == [None, None]


async def test_replay_counts_against_no_rate(new_tenant: NewTenant) -> None:
    client = await new_tenant(plan="ten")

    for _ in range(15):
        assert (await client.submit(idempotency_key="k")).status_code == 201
    new = await client.submit()

    assert new.headers["ratelimit"] == '"submit";r=8;t=60'


async def test_reads_over_the_rate_are_429_with_the_wait(new_tenant: NewTenant) -> None:
    client = await new_tenant(plan="reader")

    answers = [await client.ask("GET", "/v1/budget") for _ in range(7)]
    submitted = await client.submit()

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert 1 <= int(answers[5].headers["retry-after"]) <= 60
    assert answers[5].headers["ratelimit"] == f'"read";r=0;t={answers[5].headers["retry-after"]}'
    assert submitted.status_code == 201


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/runs", "GET, HEAD, OPTIONS, POST"),
        ("/v1/runs:batch", "OPTIONS, POST"),
        ("/v1/budget", "GET, HEAD, OPTIONS"),
        ("/v1/runs/018f0000-0000-7000-8000-000000000000", "GET, HEAD, OPTIONS"),
        ("/v1/runs/018f0000-0000-7000-8000-000000000000:cancel", "OPTIONS, POST"),
    ],
)
async def test_other_methods_are_405_and_options_says_which_are_not(
    shared: Client, path: str, allowed: str
) -> None:
    nobody = shared.as_nobody()  # a preflight has no key
    options = await nobody.ask("OPTIONS", path, headers={"Origin": ORIGIN})
    others = [
        await nobody.ask(method, path) for method in ("PUT", "PATCH", "DELETE", "TRACE", "BREW")
    ]

    assert (options.status_code, options.content) == (204, b"")
    assert options.headers["allow"] == options.headers["access-control-allow-methods"] == allowed
    assert "idempotency-key" in options.headers["access-control-allow-headers"]
    assert {(answer.status_code, answer.headers["allow"]) for answer in others} == {(405, allowed)}


@pytest.mark.parametrize(
    "path", ["/", "/health", "/readyz", "/openapi.json", "/v1/runs", "/v1/budget", "/v1/none"]
)
async def test_head_is_get_without_a_body(shared: Client, path: str) -> None:
    get, head = [await shared.ask(method, path) for method in ("GET", "HEAD")]

    assert (head.status_code, head.content) == (get.status_code, b"")
    skipped = {"x-request-id", "date", "content-length"}
    assert {n: v for n, v in head.headers.items() if n not in skipped} == {
        n: v for n, v in get.headers.items() if n not in skipped
    }


async def test_answers_about_money_are_kept_by_no_cache(acme: Client) -> None:
    submitted = await acme.submit()
    answers = [
        submitted,
        await acme.cancel(submitted.json()["run_id"]),
        await acme.ask("GET", "/v1/budget"),
        await acme.ask("GET", "/v1/transfers"),
        await acme.ask("GET", "/v1/runs"),
        await acme.ask("POST", "/v1/runs:batch", json={"runs": []}),
    ]

    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


async def test_connection_is_kept_for_the_next_request(
    served_node: NodeProcess, shared: Client
) -> None:
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(
        base_url=served_node.url, trust_env=False, verify=NO_TLS, limits=limits
    ) as http:
        one = Client(http, shared.key)
        answers = [await one.ask("GET", "/v1/budget") for _ in range(20)]
        refused = [await one.ask("GET", "/v1/none") for _ in range(20)]

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.status_code for answer in refused} == {404}
    assert {answer.headers.get("connection") for answer in (*answers, *refused)} == {None}
