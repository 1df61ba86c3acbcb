"""Results byte for byte, small ones and large ones, whole and in ranges, on a real node."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any
from uuid import UUID

import httpx
import pytest
from attrs import frozen

from tests.http.api.conftest import NewTenant, Untouched
from tests.node_books import Books
from tests.node_client import Client, send_raw
from tests.node_process import NO_TLS, NodeProcess, new_name

LARGE = 700_001  # bytes of a message: over inline_max_bytes, and three pieces of an answer
# The append-only triggers let nobody do this but a superuser who turns them off.
LATE = (
    "set session_replication_role = replica;"
    "update dpp.submissions set result_days = -1 where run_id = '{}'"
)


@frozen
class Made:
    """A run that completed, and what its result must be."""

    run: dict[str, Any]
    body: bytes

    @property
    def path(self) -> str:
        return str(self.run["links"]["result"])


async def completed(client: Client, message: Any = "hello \u00e9") -> Made:
    """Run `echo`; returns the run and the bytes of its result."""
    run = await client.ended((await client.submitted(inputs={"message": message}))["run_id"])
    assert run["status"] == "COMPLETED"
    body = json.dumps({"message": message}, separators=(",", ":"), ensure_ascii=False).encode()
    return Made(run, body)


@pytest.fixture(params=["small", "large"])
async def made(request: pytest.FixtureRequest, acme: Client) -> Made:
    return await completed(acme, "hello \u00e9" if request.param == "small" else "x" * LARGE)


def problem(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["type"].rpartition("/")[2])


async def test_result_is_the_bytes_that_were_stored(acme: Client, made: Made) -> None:
    answer = await acme.ask("GET", made.path)

    assert answer.status_code == 200
    assert answer.content == made.body
    digest = sha256(made.body).digest()
    assert made.run["result_sha256"] == digest.hex()
    assert answer.headers["repr-digest"].startswith("sha-256=:")
    assert b64decode(answer.headers["repr-digest"].removeprefix("sha-256=:")[:-1]) == digest
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(made.body))
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"] == f'"{digest.hex()}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="{made.run["run_id"]}.json"'
    )
    assert answer.headers["cache-control"] == "private, no-cache"


async def test_head_tells_the_same_without_a_body(acme: Client, made: Made) -> None:
    got, head = await acme.ask("GET", made.path), await acme.ask("HEAD", made.path)
    ranged = await acme.ask("HEAD", made.path, headers={"Range": "bytes=0-1"})

    assert (head.status_code, ranged.status_code, head.content) == (200, 200, b"")
    names = {"repr-digest", "content-length", "etag", "content-type", "accept-ranges"}
    assert {name: head.headers[name] for name in names} == {
        name: got.headers[name] for name in names
    }
    assert ranged.headers["content-length"] == str(len(made.body))  # a range is of GET alone


async def test_who_has_it_is_told_so(acme: Client, made: Made) -> None:
    tag = f'"{made.run["result_sha256"]}"'

    answers = [
        await acme.ask("GET", made.path, headers={"If-None-Match": given, "Range": "bytes=0-1"})
        for given in (tag, f"W/{tag}", f'"other", {tag}', "*")
    ]
    other = await acme.ask("GET", made.path, headers={"If-None-Match": '"other"'})

    assert [answer.status_code for answer in answers] == [304] * 4
    assert {answer.headers["etag"] for answer in answers} == {tag}
    assert {answer.content for answer in answers} == {b""}
    assert other.content == made.body


async def test_a_range_is_that_part(acme: Client, made: Made) -> None:
    size = len(made.body)
    asked = {
        "bytes=0-0": (0, 1),
        f"bytes=3-{size + 10}": (3, size),
        f"bytes={size - 1}-": (size - 1, size),
        "bytes=-4": (size - 4, size),
        f"bytes=-{size + 1}": (0, size),
        "bytes=2-": (2, size),
    }

    for text, (start, stop) in asked.items():
        answer = await acme.ask("GET", made.path, headers={"Range": text})
        assert answer.status_code == 206, text
        assert answer.content == made.body[start:stop], text
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert answer.headers["content-length"] == str(stop - start)
        digest = sha256(made.body).digest()  # of the whole (RFC 9530), whatever part is sent
        assert b64decode(answer.headers["repr-digest"][9:-1]) == digest


async def test_parts_of_a_large_result_make_the_whole(acme: Client) -> None:
    made = await completed(acme, "".join(f"{n}," for n in range(100_000)))
    size, step = len(made.body), 250_000
    tag = {"If-Range": f'"{made.run["result_sha256"]}"'}

    parts = [
        (
            await acme.ask(
                "GET", made.path, headers={**tag, "Range": f"bytes={at}-{at + step - 1}"}
            )
        ).content
        for at in range(0, size, step)
    ]

    assert len(parts) > 2
    assert b"".join(parts) == made.body


async def test_range_behind_the_end_is_told_the_length(acme: Client, made: Made) -> None:
    size = len(made.body)

    for text in (f"bytes={size}-", "bytes=-0"):
        answer = await acme.ask("GET", made.path, headers={"Range": text})
        assert (answer.status_code, problem(answer)) == (416, "range-not-satisfiable")
        assert answer.headers["content-range"] == f"bytes */{size}"


async def test_other_ranges_and_stale_tags_get_the_whole(acme: Client, made: Made) -> None:
    given = [
        {"Range": "bytes=0-1,4-5"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=5-2"},
        {"Range": "bytes=0-1", "If-Range": '"another"'},
        {"Range": "bytes=0-1", "If-Range": f'W/"{made.run["result_sha256"]}"'},
        {"Range": "bytes=0-1", "If-Range": "Sun, 29 Nov 2026 11:09:40 GMT"},
    ]

    for headers in given:
        answer = await acme.ask("GET", made.path, headers=headers)
        assert (answer.status_code, answer.content == made.body) == (200, True), headers


async def test_large_result_is_not_inline_and_its_link_leads_to_it(acme: Client) -> None:
    small, large = await completed(acme), await completed(acme, "x" * LARGE)

    assert small.run["result"] == json.loads(small.body)
    assert large.run["result"] is None
    assert large.run["links"]["receipt"] == f"/v1/runs/{large.run['run_id']}/receipt"
    assert (await acme.ask("GET", large.path)).content == large.body


async def test_connection_goes_on_after_a_large_result(served_node: NodeProcess) -> None:
    """Its length frames it: the next answer on the connection begins where it ends."""
    key = served_node.tenant(new_name())
    async with httpx.AsyncClient(
        base_url=served_node.url, trust_env=False, verify=NO_TLS, timeout=60
    ) as http:
        client = Client(http, key)
        made = await completed(client, "x" * LARGE)
    head = f"Host: dpp\r\nAuthorization: Bearer {key}\r\n"
    twice = (
        f"GET {made.path} HTTP/1.1\r\n{head}\r\n"
        f"GET {made.path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
    )

    out = await send_raw(served_node.url, twice.encode())

    assert out.count(b"HTTP/1.1 200 ") == 2
    assert out.count(made.body) == 2
    assert out.endswith(made.body)


async def test_run_that_has_not_ended_has_no_result_yet(acme: Client, untouched: Untouched) -> None:
    run = await acme.submitted(inputs={"sleep_s": 600})
    run = await acme.until_status(run["run_id"], "PROCESSING")

    async with untouched(acme):
        answer = await acme.ask("GET", run["links"]["result"])
    await acme.cancel(run["run_id"])
    await acme.ended(run["run_id"])

    assert (answer.status_code, problem(answer)) == (409, "run-not-finished")
    assert answer.json()["run_status"] == "PROCESSING"


async def test_run_that_ended_without_one_never_has_one(acme: Client) -> None:
    failed = await acme.ended((await acme.submitted(inputs={"fail": True}))["run_id"])
    asleep = await acme.submitted(inputs={"sleep_s": 600})
    await acme.until_status(asleep["run_id"], "PROCESSING")
    await acme.cancel(asleep["run_id"])
    canceled = await acme.ended(asleep["run_id"])

    for run in (failed, canceled):
        answer = await acme.ask("GET", run["links"]["result"])
        assert (answer.status_code, problem(answer)) == (404, "not-found")
        assert run["status"] in answer.json()["detail"]


async def test_result_past_retention_is_gone_from_its_run_too(
    acme: Client, books: Books, made: Made
) -> None:
    await books.execute(LATE.format(UUID(made.run["run_id"])))

    answer = await acme.ask("GET", made.path)
    run = await acme.run(made.run["run_id"])
    (listed,) = (await acme.get("/v1/runs"))["items"]

    assert (answer.status_code, problem(answer)) == (410, "result-expired")
    assert run["result"] is listed["result"] is None
    assert run["result_sha256"] == made.run["result_sha256"]  # what it was can still be proved
    assert (await acme.ask("GET", run["links"]["receipt"])).status_code == 200


async def test_run_past_retention_is_told_from_one_that_never_was(
    acme: Client, new_tenant: NewTenant, books: Books
) -> None:
    other, gone = await new_tenant(), "018f0000-0000-7000-8000-00000000abcd"
    insert = (
        "insert into dpp.spent_keys (tenant_id, idempotency_key, run_id, fingerprint, ended_at, "
        "pruned_at) values ($1, 'k', $2, '', now(), now()) returning 1"
    )
    await books.rows(insert, acme.name, UUID(gone))

    for what in ("result", "receipt"):
        answer = await acme.ask("GET", f"/v1/runs/{gone}/{what}")
        foreign = await other.ask("GET", f"/v1/runs/{gone}/{what}")
        assert (answer.status_code, problem(answer)) == (410, "run-expired")
        assert answer.json()["run_id"] == gone
        assert (foreign.status_code, problem(foreign)) == (404, "not-found")
    await books.rows("delete from dpp.spent_keys where run_id = $1 returning 1", UUID(gone))


async def test_nobody_else_sees_a_result(
    acme: Client, new_tenant: NewTenant, served_node: NodeProcess, made: Made
) -> None:
    other = await new_tenant()
    poor = Client(acme.http, served_node.new_key(acme.name, scopes=["budget:read"]))

    asked = [other, acme.as_nobody(), poor]
    statuses = [(await who.ask("GET", made.path)).status_code for who in asked]

    assert statuses == [404, 401, 403]


@pytest.mark.parametrize(
    "name", ["nothing", "018F0000-0000-7000-8000-000000000000", "a%2Fb", "%00"]
)
async def test_what_is_no_run_id_is_not_found(shared: Client, name: str) -> None:
    for what in ("result", "receipt"):
        assert (await shared.ask("GET", f"/v1/runs/{name}/{what}")).status_code == 404


async def test_parameters_are_refused(acme: Client, made: Made) -> None:
    answer = await acme.ask("GET", made.path, params={"download": "1"})

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
