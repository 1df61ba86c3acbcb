"""What holds of every route and every answer, asked over real sockets of both servers."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.http.media import JSON
from dpp.http.routes import ROUTES
from tests.http.api.conftest import NewTenant, Untouched
from tests.http.api.test_bad_inputs import GOOD, message, nested, with_keys
from tests.http.api.test_headers import ORIGIN
from tests.node_client import Client, name_of, problem, send_raw, submission
from tests.node_process import NodeProcess

if TYPE_CHECKING:
    import httpx

UNKNOWN = "018f0000-0000-7000-8000-000000000000"
PATHS = sorted({route.path for route in ROUTES})
BODIED = [route for route in ROUTES if route.body is not None and JSON in route.body.media_types]
NODES_MAX = 10_000
AROUND = 5  # nodes of a submission beside the items of its message, less the first item's comma

BROKEN_JSON: dict[str, bytes] = {
    "nothing": b"",
    "an array": b"[]",
    "the same member twice": b'{"a":1,"a":1}',
    "tenant_id twice": b'{"tenant_id":"a","tenant_id":"a"}',
    "trailing data": b"{}{}",
    "byte order mark": b"\xef\xbb\xbf{}",
    "invalid UTF-8": b'{"a":"\xff"}',
    "NaN": b'{"a":NaN}',
    "2^53+1": b'{"a":9007199254740993}',
    "4,301 digits": b'{"a":' + b"1" * 4301 + b"}",
    "half a surrogate pair": b'{"a":"\\ud800"}',
    "NUL": b'{"a":"\\u0000"}',
    "NUL as a name": b'{"\\u0000":1}',
    "depth 33": b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
}


def filled(path: str) -> str:
    """Return a path whose parameters name nothing that is there."""
    return re.sub(r"\{[a-z_]+\}", UNKNOWN, path)


def asked(key: str | None, line: str, *lines: str, body: bytes = b"") -> bytes:
    """Return a request, byte for byte."""
    told = [f"{line} HTTP/1.1", "Host: dpp", *lines]
    if key is not None:
        told.append(f"Authorization: Bearer {key}")
    return "\r\n".join((*told, "", "")).encode("latin-1") + body


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("route", BODIED, ids=lambda route: f"{route.method} {route.path}")
async def test_every_body_is_read_by_the_same_strict_decoder(
    shared: Client, untouched: Untouched, route: Any
) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "never-used"}
    path = filled(route.path)
    async with untouched(shared):
        answers = {
            name: await shared.ask(route.method, path, content=body, headers=headers)
            for name, body in BROKEN_JSON.items()
        }

    told = {name: (answer.status_code, problem(answer)) for name, answer in answers.items()}
    assert told == dict.fromkeys(BROKEN_JSON, (400, "malformed-json"))


async def test_submission_may_have_ten_thousand_values_and_not_one_more(
    acme: Client, untouched: Untouched
) -> None:
    def listing(items: int) -> bytes:
        return message(b"[" + b",".join([b"0"] * items) + b"]")

    def post(content: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Idempotency-Key": "many"}
        return acme.ask("POST", "/v1/runs", content=content, headers=headers)

    async with untouched(acme):
        over = await post(listing(NODES_MAX - AROUND + 2))
    just = await post(listing(NODES_MAX - AROUND + 1))

    assert (over.status_code, problem(over)) == (400, "malformed-json")
    assert just.status_code == 201


async def test_array_of_a_million_in_a_batch_spoils_only_its_item(acme: Client) -> None:
    large = message(b"[" + b"1," * 999_999 + b"1]")[:-1] + b',"idempotency_key":"large"}'
    good = json.dumps(submission(idempotency_key="good")).encode()
    headers = {"Content-Type": "application/x-ndjson"}

    answer = await acme.ask("POST", "/v1/runs:batch", content=large + b"\n" + good, headers=headers)

    items = answer.json()["items"]
    assert [item["status"] for item in items] in ([400, 201], [413, 201])
    assert len((await acme.get("/v1/runs"))["items"]) == 1


async def test_body_of_no_stated_type_is_415(
    served_node: NodeProcess, shared: Client, untouched: Untouched
) -> None:
    data = with_keys(str(shared.key), [b"k"]).replace(b"Content-Type: application/json\r\n", b"")
    async with untouched(shared):
        answer = await send_raw(served_node.url, data)

    assert answer.startswith(b"HTTP/1.1 415 "), answer


@pytest.mark.parametrize("line", [b'"', b'""a"', b'"a'])
async def test_lone_quotes_are_no_key(
    served_node: NodeProcess, shared: Client, untouched: Untouched, line: bytes
) -> None:
    async with untouched(shared):
        answer = await send_raw(served_node.url, with_keys(str(shared.key), [line]))

    assert answer.startswith(b"HTTP/1.1 400 "), answer


# ── routes and methods ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", PATHS)
async def test_options_head_and_unknown_methods_are_answered_on_every_route(
    shared: Client, untouched: Untouched, path: str
) -> None:
    methods = {route.method for route in ROUTES if route.path == path}
    allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    target = filled(path)
    async with untouched(shared):
        options = await shared.as_nobody().ask("OPTIONS", target, headers={"Origin": ORIGIN})
        head = await shared.ask("HEAD", target)
        others = [
            await shared.ask(method, target)
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW")
            if method not in allowed
        ]

    assert (options.status_code, options.content) == (204, b"")
    assert set(options.headers["allow"].split(", ")) == allowed
    assert options.headers["access-control-allow-origin"] == ORIGIN
    assert head.content == b""
    if "GET" in methods:
        get = await shared.ask("GET", target)
        assert head.status_code == get.status_code
        assert head.headers["content-type"] == get.headers["content-type"]
    else:
        assert head.status_code == 405
    assert {answer.status_code for answer in others} <= {405}
    assert {problem(answer) for answer in others} <= {"method-not-allowed"}


async def answers_of_many_kinds(client: Client, poor: Client) -> dict[int, httpx.Response]:
    """Return an answer of each status that the kinds in `test_headers` have not."""
    submitted = await client.submit(headers={"Origin": ORIGIN})
    path = submitted.json()["links"]["self"]
    run = await client.ended(submitted.json()["run_id"])
    asking = {"Origin": ORIGIN}
    etag = (await client.ask("GET", path)).headers["etag"]
    waiting = await client.submitted(inputs={"sleep_s": 600})
    await client.until_status(waiting["run_id"], "PROCESSING")
    limited = [await poor.ask("GET", "/v1/budget", headers=asking) for _ in range(6)]
    assert run["status"] == "COMPLETED"
    return {
        201: submitted,
        304: await client.ask("GET", path, headers={**asking, "If-None-Match": etag}),
        409: await client.ask("GET", f"/v1/runs/{waiting['run_id']}/result", headers=asking),
        202: await client.ask("POST", f"/v1/runs/{waiting['run_id']}:cancel", headers=asking),
        402: await client.submit(max_cost_usd="1000", headers=asking),
        413: await client.submit(inputs={"message": "x" * (1 << 20)}, headers=asking),
        417: await client.ask("GET", "/", headers={**asking, "Expect": "200-maybe"}),
        429: limited[-1],
    }


async def test_rarer_answers_are_dressed_as_all_others(acme: Client, new_tenant: NewTenant) -> None:
    answers = await answers_of_many_kinds(acme, await new_tenant(plan="reader"))

    assert {status: answer.status_code for status, answer in answers.items()} == {
        status: status for status in answers
    }
    for status, answer in answers.items():
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"]), status
        assert answer.headers["x-content-type-options"] == "nosniff", status
        assert "default-src 'none'" in answer.headers["content-security-policy"], status
        assert answer.headers["referrer-policy"] == "no-referrer", status
        assert answer.headers["access-control-allow-origin"] == ORIGIN, status
        assert "x-request-id" in answer.headers["access-control-expose-headers"], status
        assert "server" not in answer.headers, status


# ── connections ──────────────────────────────────────────────────────────────────────────────────


async def test_thousand_pipelined_requests_are_answered_in_order(
    served_node: NodeProcess, shared: Client
) -> None:
    data = b"".join(
        asked(shared.key, "GET /v1/budget", f"X-Request-Id: n-{n}") for n in range(1000)
    )

    answer = await send_raw(served_node.url, data, half_close=True)

    assert answer.count(b"HTTP/1.1 200 ") == 1000
    named = re.findall(rb"\r\nx-request-id: n-([0-9]+)\r\n", answer)
    assert named == [str(n).encode() for n in range(1000)]


async def test_submit_of_a_client_that_then_half_closes_is_answered(
    served_node: NodeProcess, acme: Client
) -> None:
    data = with_keys(str(acme.key), [b"k"]).replace(b"Connection: close\r\n", b"")

    answer = await send_raw(served_node.url, data, half_close=True)

    assert answer.startswith(b"HTTP/1.1 201 "), answer
    assert len((await acme.get("/v1/runs"))["items"]) == 1


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_reset_in_the_middle_of_a_body_writes_nothing(
    served_node: NodeProcess, shared: Client, untouched: Untouched, framing: str
) -> None:
    how = "Content-Length: 54" if framing == "length" else "Transfer-Encoding: chunked"
    begun = GOOD[:20] if framing == "length" else b"36\r\n" + GOOD[:20]
    head = asked(
        shared.key, "POST /v1/runs", how, "Content-Type: application/json", "Idempotency-Key: k"
    )
    target = served_node.url.removeprefix("http://").rpartition(":")
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    async with untouched(shared):
        for _ in range(20):
            async with await trio.open_tcp_stream(target[0], int(target[2])) as stream:
                await stream.send_all(head + begun)
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def test_chunked_body_without_its_last_line_end_is_refused(
    served_node: NodeProcess, shared: Client, untouched: Untouched
) -> None:
    head = asked(
        shared.key,
        "POST /v1/runs",
        "Transfer-Encoding: chunked",
        "Content-Type: application/json",
        "Idempotency-Key: k",
    )
    body = b"%x\r\n%b\r\n0\r\n" % (len(GOOD), GOOD)
    async with untouched(shared):
        answer = await send_raw(served_node.url, head + body, half_close=True)

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert name_of(json.loads(answer.partition(b"\r\n\r\n")[2])) == "malformed-http"


@pytest.mark.parametrize(
    ("line", "lines", "status"),
    [
        (f"GET /v1/runs/{'a' * (1 << 20)}", (), 414),
        (f"GET /v1/runs?cursor={'a' * (1 << 20)}", (), 414),
        ("GET /v1/runs", (f"Authorization: Bearer {'a' * (1 << 20)}",), 431),
        ("POST /v1/runs", (f"Idempotency-Key: {'a' * (1 << 20)}",), 431),
    ],
    ids=["id", "cursor", "key", "idempotency key"],
)
async def test_megabyte_in_a_head_is_refused_before_it_is_read(
    served_node: NodeProcess, line: str, lines: tuple[str, ...], status: int
) -> None:
    answer = await send_raw(served_node.url, asked(None, line, *lines))

    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:300]


async def test_forwarded_headers_and_absolute_targets_change_nothing(
    served_node: NodeProcess, acme: Client
) -> None:
    spoofed = {
        "X-Forwarded-For": "10.0.0.1, 127.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Prefix": "/admin",
        "X-Original-URL": "/admin/v1/tenants",
        "X-Rewrite-URL": "/metrics",
        "Forwarded": "for=10.0.0.1;host=evil.example;proto=https",
        "X-Real-IP": "10.0.0.1",
        "X-HTTP-Method-Override": "DELETE",
        "Host": "evil.example",
    }

    plain = await acme.ask("GET", "/v1/budget")
    same = await acme.ask("GET", "/v1/budget", headers=spoofed)
    absolute = await send_raw(
        served_node.url,
        asked(acme.key, "GET http://evil.example/v1/budget", "Connection: close"),
    )
    made = await acme.submit(headers=spoofed)

    varying = {"x-request-id", "date"}
    assert same.content == plain.content
    assert {n: v for n, v in same.headers.items() if n not in varying} == {
        n: v for n, v in plain.headers.items() if n not in varying
    }
    assert made.headers["location"] == f"/v1/runs/{made.json()['run_id']}"
    assert "evil" not in made.text
    assert absolute.endswith(plain.content)


async def test_depth_counts_in_every_place(shared: Client, untouched: Untouched) -> None:
    deep = b'{"runs":[' + nested(33)[:-1] + b',"idempotency_key":"k"}]}'
    async with untouched(shared):
        answer = await shared.ask(
            "POST", "/v1/runs:batch", content=deep, headers={"Content-Type": "application/json"}
        )

    refused = answer.status_code == 400 or {i["status"] for i in answer.json()["items"]} == {400}
    assert refused, answer.text
