"""Looking at runs on a real node: one, waiting for it, all of them, and canceling."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
import trio

from tests.http.api.conftest import NewTenant
from tests.node_client import Client, problem, submission, together, until

LONG = {"sleep_s": 600}


async def test_wait_is_answered_when_the_run_ends_and_not_before(acme: Client) -> None:
    run = await acme.submitted(inputs={"sleep_s": 0.3, "message": "done"})

    answer = await acme.ask("GET", f"/v1/runs/{run['run_id']}", params={"wait": 60})

    assert (answer.status_code, answer.json()["status"]) == (200, "COMPLETED")
    assert answer.json()["result"] == {"message": "done"}


async def test_many_wait_for_one_run_and_all_are_answered(acme: Client) -> None:
    run = await acme.submitted(inputs={"sleep_s": 0.3})
    wait = partial(acme.ask, "GET", f"/v1/runs/{run['run_id']}", params={"wait": 60})

    answers = await together(*[wait] * 50)

    assert {answer.json()["status"] for answer in answers} == {"COMPLETED"}


async def test_wait_that_is_over_answers_the_run_as_it_is(acme: Client) -> None:
    run_id = (await acme.submitted(inputs=LONG))["run_id"]
    await acme.until_status(run_id, "PROCESSING")

    answer = await acme.ask("GET", f"/v1/runs/{run_id}", params={"wait": 1})
    await acme.cancel(run_id)

    assert (answer.status_code, answer.json()["status"]) == (200, "PROCESSING")


async def test_wait_for_a_run_that_is_canceled_meanwhile_is_answered(acme: Client) -> None:
    run_id = (await acme.submitted(inputs=LONG))["run_id"]
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await acme.ask("GET", f"/v1/runs/{run_id}", params={"wait": 60}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await acme.until_status(run_id, "PROCESSING")
        await acme.cancel(run_id)

    assert answers[0].json()["status"] == "CANCELED"


@pytest.mark.parametrize("wait", ["61", "-1", "1.5", "", "x", "１"])
async def test_wait_has_bounds(acme: Client, wait: str) -> None:
    run = await acme.submitted()

    answer = await acme.ask("GET", f"/v1/runs/{run['run_id']}", params={"wait": wait})

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert answer.json()["errors"][0]["pointer"] == "/query/wait"


async def test_unchanged_run_is_304_and_a_changed_one_is_not(acme: Client) -> None:
    run_id = (await acme.submitted(inputs=LONG))["run_id"]
    await acme.until_status(run_id, "PROCESSING")
    path = f"/v1/runs/{run_id}"

    first = await acme.ask("GET", path)
    etag = first.headers["etag"]
    same = [
        await acme.ask("GET", path, headers={"If-None-Match": tag})
        for tag in (etag, f"W/{etag}", f'"other", {etag}', "*")
    ]
    other = await acme.ask("GET", path, headers={"If-None-Match": '"other"'})
    await acme.cancel(run_id)
    await acme.ended(run_id)
    changed = await acme.ask("GET", path, headers={"If-None-Match": etag})

    assert [(answer.status_code, answer.content) for answer in same] == [(304, b"")] * 4
    assert {answer.headers["etag"] for answer in same} == {etag}
    assert (other.status_code, other.headers["etag"]) == (200, etag)
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag
    assert first.headers["cache-control"] == "private, no-cache"


async def test_runs_are_listed_newest_first_and_every_page_goes_on(acme: Client) -> None:
    items = await acme.batch([submission(idempotency_key=f"l-{n}") for n in range(25)])
    for item in items:
        await acme.ended(item["run"]["run_id"])
    made = [item["run"]["run_id"] for item in items]
    assert made == sorted(made)  # UUIDv7: in order of their making

    first = await acme.get("/v1/runs", limit=10)
    late = await acme.submitted()  # what comes later does not move the pages that are left
    pages, cursor = [[run["run_id"] for run in first["items"]]], first["next_cursor"]
    while cursor is not None:
        page = await acme.get("/v1/runs", limit=10, cursor=cursor)
        pages.append([run["run_id"] for run in page["items"]])
        cursor = page["next_cursor"]

    assert [len(page) for page in pages] == [10, 10, 5]
    assert [run_id for page in pages for run_id in page] == made[::-1]
    whole = await acme.get("/v1/runs", limit=26)
    assert [run["run_id"] for run in whole["items"]] == [late["run_id"], *made[::-1]]
    assert whole["next_cursor"] is None


async def test_last_page_that_is_full_says_that_it_is_the_last(acme: Client) -> None:
    for _ in range(2):
        await acme.submitted()

    page = await acme.get("/v1/runs", limit=2)

    assert (len(page["items"]), page["next_cursor"]) == (2, None)


async def test_listed_run_is_the_run(acme: Client) -> None:
    run = await acme.ended((await acme.submitted(inputs={"message": 1}))["run_id"])

    listed = await acme.get("/v1/runs")

    assert listed == {"items": [run], "next_cursor": None}


async def test_run_is_found_by_its_key_and_a_key_without_a_run_finds_none(acme: Client) -> None:
    run = await acme.ended((await acme.submitted(idempotency_key="order/4711"))["run_id"])
    await acme.submitted(idempotency_key="order/4712")

    found = await acme.ask("GET", "/v1/runs", params={"idempotency_key": "order/4711"})
    none = await acme.get("/v1/runs", idempotency_key="ORDER/4711")

    assert found.json() == {"items": [run], "next_cursor": None}
    assert found.headers["cache-control"] == "no-store"
    assert none == {"items": [], "next_cursor": None}


async def test_nothing_is_listed_of_a_tenant_that_has_nothing(new_tenant: NewTenant) -> None:
    client = await new_tenant()

    assert await client.get("/v1/runs") == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "pointers"),
    [
        ("limit=0", {"/query/limit"}),
        ("limit=201", {"/query/limit"}),
        ("limit=-1", {"/query/limit"}),
        ("limit=1000000000", {"/query/limit"}),
        ("limit=1&limit=2", {"/query/limit"}),
        ("limit=%2010", {"/query/limit"}),
        ("limit=", {"/query/limit"}),
        ("limit=0x10", {"/query/limit"}),
        ("limit=%D9%A3", {"/query/limit"}),
        ("cursor=", {"/query/cursor"}),
        ("cursor=forged", {"/query/cursor"}),
        ("cursor=" + "A" * 200, {"/query/cursor"}),
        ("cursor=%00", {"/query/cursor"}),
        ("cursor=' OR 1=1", {"/query/cursor"}),
        ("idempotency_key=", {"/query/idempotency_key"}),
        ("idempotency_key=" + "k" * 256, {"/query/idempotency_key"}),
        ("tenant_id=acme", {"/query/tenant_id"}),
        ("nothing=1&limit=0", {"/query/nothing", "/query/limit"}),
        ("limit=%FF", {"/query"}),
        ("&".join(f"a{n}=1" for n in range(40)), {"/query"}),
    ],
)
async def test_bad_query_is_422_and_names_the_parameter(
    shared: Client, query: str, pointers: set[str]
) -> None:
    answer = await shared.ask("GET", f"/v1/runs?{query.replace(' ', '%20')}")

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert {error["pointer"] for error in answer.json()["errors"]} == pointers


async def test_cursor_is_good_for_its_list_and_tenant_alone(
    acme: Client, new_tenant: NewTenant
) -> None:
    other = await new_tenant()
    for _ in range(2):
        await acme.submitted()
    cursor = (await acme.get("/v1/runs", limit=1))["next_cursor"]

    answers = [
        await other.ask("GET", "/v1/runs", params={"cursor": cursor}),
        await acme.ask("GET", "/v1/transfers", params={"cursor": cursor}),
        await acme.ask("GET", "/v1/runs", params={"cursor": cursor[:-2]}),
    ]

    assert [(answer.status_code, problem(answer)) for answer in answers] == [
        (422, "invalid-request")
    ] * 3


@pytest.mark.parametrize(
    "run_id",
    [
        "0",
        "00000000-0000-0000-0000-000000000000",
        "018F0000-0000-7000-8000-ABCDEFABCDEF",
        "018f000000007000800000000000abcd",
        "{018f0000-0000-7000-8000-000000000000}",
        "' OR 1=1 --",
        "*)(uid=*",
        "${jndi:ldap://x/a}",
        "..%2f..%2fadmin",
        "%00",
        "%F0%9F%92%A9",
        "a" * 5000,
    ],
)
@pytest.mark.parametrize("way", ["look", "cancel"])
async def test_id_of_no_run_is_404(shared: Client, run_id: str, way: str) -> None:
    quoted = run_id if "%" in run_id else str(httpx.URL(path=f"/{run_id}"))[1:]

    if way == "look":
        answer = await shared.ask("GET", f"/v1/runs/{quoted}")
    else:
        answer = await shared.ask("POST", f"/v1/runs/{quoted}:cancel")

    assert (answer.status_code, problem(answer)) == (404, "not-found")


async def test_failed_run_says_why_and_who_pays(acme: Client) -> None:
    run = await acme.ended((await acme.submitted(inputs={"fail": True}))["run_id"])

    assert run["status"] == "FAILED"
    assert {*run["error"]} == {"code", "detail", "payer"}
    assert (run["error"]["code"], run["error"]["payer"]) == ("pack_refused", "tenant")
    assert run["result"] is run["result_sha256"] is None


async def test_progress_is_shown_while_a_run_is_executed(acme: Client) -> None:
    names = [f"o{n}" for n in range(2000)]
    inputs = {
        "question": "Which?",
        "options": names,
        "criteria": [{"name": f"c{n}", "weight": 1, "direction": "max"} for n in range(500)],
        "scores": {name: {"c0": 1} for name in names},
    }
    # Seconds of work for few threads: each is told of, and then waits for its turn.
    one = submission(pack_type="decision", inputs=inputs, max_cost_usd="1.01")
    items = await acme.batch([{**one, "idempotency_key": f"d-{n}"} for n in range(9)])
    last = items[-1]["run"]["run_id"]

    async def look() -> dict[str, Any] | None:
        run = await acme.run(last)
        return run if run["progress"] or run["finished_at"] else None

    run = await until(look)
    for item in items:
        await acme.cancel(item["run"]["run_id"])
    for item in items:
        await acme.ended(item["run"]["run_id"])

    assert run["status"] == "PROCESSING"
    assert 0 < run["progress"]["fraction"] < 1
    assert run["progress"]["note"]
