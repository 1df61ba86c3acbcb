"""`POST /v1/runs:batch` on a real node: an answer for each item, as if it had come alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.http.api.conftest import NewTenant, Untouched
from tests.node_client import Client, name_of, problem, submission, until

NDJSON = {"Content-Type": "application/x-ndjson"}


async def test_every_item_is_answered_in_order_and_runs(acme: Client) -> None:
    items = await acme.batch(
        [submission(idempotency_key=f"b-{n}", inputs={"message": n}) for n in range(100)]
    )
    ended = [await acme.ended(item["run"]["run_id"]) for item in items]

    assert {(item["status"], item["replayed"]) for item in items} == {(201, False)}
    assert [item["run"]["idempotency_key"] for item in items] == [f"b-{n}" for n in range(100)]
    assert [run["result"]["message"] for run in ended] == [*range(100)]


async def test_thousand_runs_are_taken_and_one_more_is_refused_as_a_whole(
    new_tenant: NewTenant, untouched: Untouched
) -> None:
    client = await new_tenant(deposit_usd="100.00")
    runs = [submission(idempotency_key=f"b-{n}") for n in range(1001)]

    async with untouched(client):
        refused = await client.ask("POST", "/v1/runs:batch", json={"runs": runs})
    items = await client.batch(runs[:1000])

    async def nothing_held() -> bool:
        return bool((await client.get("/v1/budget"))["held_usd"] == "0.00")

    await until(nothing_held)
    assert (refused.status_code, problem(refused)) == (422, "invalid-request")
    assert {item["status"] for item in items} == {201}


async def test_refused_item_harms_none_of_its_neighbours(new_tenant: NewTenant) -> None:
    client = await new_tenant(plan="small", deposit_usd="0.50")
    wanted: list[tuple[Any, int, str | None]] = [
        (submission(idempotency_key="a"), 201, None),
        (submission(), 400, "idempotency-key-missing"),
        (submission(idempotency_key="a b"), 400, "idempotency-key-invalid"),
        (submission(idempotency_key='"q"'), 400, "idempotency-key-invalid"),
        (submission(idempotency_key="b", max_cost_usd="0.1e1"), 422, "invalid-request"),
        (submission(idempotency_key="c", inputs={"sleep_s": -1}), 422, "invalid-request"),
        (submission(idempotency_key="d", pack_type="nothing"), 422, "pack-unknown"),
        (submission(idempotency_key="e", max_cost_usd="0.004"), 422, "max-cost-too-low"),
        (submission(idempotency_key="f", max_cost_usd="0.51"), 422, "max-cost-too-high"),
        (submission(idempotency_key="g", max_cost_usd="0.50"), 402, "budget-exceeded"),
        ([], 422, "invalid-request"),
        (None, 422, "invalid-request"),
        (submission(idempotency_key="a", priority=1), 422, "idempotency-key-reused"),
        (submission(idempotency_key="h", max_cost_usd="0.49"), 201, None),
        (submission(idempotency_key="i"), 402, "budget-exceeded"),
    ]

    items = await client.batch([item for item, _, _ in wanted])
    told = [
        (item["status"], name_of(item["problem"]) if "problem" in item else None) for item in items
    ]

    assert told == [(status, name) for _, status, name in wanted]
    problems = [item["problem"] for item in items if "problem" in item]
    assert all(
        {"type", "title", "status", "detail", "instance", "request_id"} <= set(p) for p in problems
    )
    runs = (await client.get("/v1/runs"))["items"]
    assert {run["idempotency_key"] for run in runs} == {"a", "h"}


async def test_items_do_not_see_each_other_but_for_the_money_they_took(
    new_tenant: NewTenant,
) -> None:
    client = await new_tenant(deposit_usd="1.00")
    inputs = {"sleep_s": 600}
    runs = [
        submission(idempotency_key=f"b-{n}", max_cost_usd=cost, inputs=inputs)
        for n, cost in enumerate(("0.60", "0.60", "0.40", "0.01"))
    ]

    items = await client.batch(runs)

    assert [item["status"] for item in items] == [201, 402, 201, 402]
    assert items[1]["problem"]["available_usd"] == "0.40"
    for item in items:
        if "run" in item:
            await client.cancel(item["run"]["run_id"])


async def test_replayed_batch_is_the_same_runs(acme: Client) -> None:
    runs = [submission(idempotency_key=f"b-{n}", inputs={"cost_usd": "0.001"}) for n in range(10)]
    first = await acme.batch(runs)
    for item in first:
        await acme.ended(item["run"]["run_id"])
    before = await acme.books()

    again = await acme.batch(list(reversed(runs)))

    assert {item["replayed"] for item in again} == {True}
    assert [item["run"]["run_id"] for item in reversed(again)] == [
        i["run"]["run_id"] for i in first
    ]
    assert {item["run"]["status"] for item in again} == {"COMPLETED"}
    assert await acme.books() == before


async def test_line_that_is_no_json_spoils_only_itself(acme: Client) -> None:
    good = [json.dumps(submission(idempotency_key=f"n-{n}")).encode() for n in range(3)]
    lines = [good[0], b"{", b"", b"\xff", b"[]", b'{"a":1,"a":2}', good[1], b"   ", good[2]]

    answer = await acme.ask("POST", "/v1/runs:batch", content=b"\n".join(lines), headers=NDJSON)

    items = answer.json()["items"]
    assert answer.status_code == 200
    assert [item["status"] for item in items] == [201, 400, 400, 400, 400, 201, 201]
    names = {name_of(item["problem"]) for item in items if "problem" in item}
    assert names == {"malformed-json"}


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"", 400, "malformed-json"),
        (b"[]", 400, "malformed-json"),
        (b"{", 400, "malformed-json"),
        (b'{"runs": []}', 422, "invalid-request"),
        (b'{"runs": {}}', 422, "invalid-request"),
        (b'{"runs": null}', 422, "invalid-request"),
        (b"{}", 422, "invalid-request"),
        (b'{"runs": [{}], "more": 1}', 422, "invalid-request"),
        (b'{"runs": [{}], "runs": [{}]}', 400, "malformed-json"),
        (b'{"runs": [' + b"[" * 40 + b"]" * 40 + b"]}", 400, "malformed-json"),
    ],
)
async def test_body_that_is_no_batch_is_refused_as_a_whole(
    shared: Client, untouched: Untouched, body: bytes, status: int, name: str
) -> None:
    async with untouched(shared):
        answer = await shared.ask(
            "POST", "/v1/runs:batch", content=body, headers={"Content-Type": "application/json"}
        )

    assert (answer.status_code, problem(answer)) == (status, name)


async def test_batch_of_no_lines_is_refused(shared: Client, untouched: Untouched) -> None:
    async with untouched(shared):
        answer = await shared.ask("POST", "/v1/runs:batch", content=b"\n \n", headers=NDJSON)

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
