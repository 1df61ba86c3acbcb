"""Quotes: what a submission would reserve and may cost, decided as the submission would be."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.http.api.conftest import NewTenant, Untouched
from tests.node_client import Client, fresh_key, submission
from tests.node_process import NodeProcess

TABLE = {
    "question": "Which?",
    "options": ["a", "b", "c"],
    "criteria": [
        {"name": "price", "weight": 1, "direction": "min"},
        {"name": "range", "weight": 1, "direction": "max"},
    ],
}
PRICE = "0.010006"  # of six cells
FAR = "2999-01-01T00:00:00Z"


async def quoted(client: Client, **members: Any) -> httpx.Response:
    """Ask for a quote of `echo`; a member that is None is left out."""
    body = {name: value for name, value in submission(**members).items() if value is not None}
    return await client.ask("POST", "/v1/quotes", json=body)


async def test_known_price_is_what_is_expected_and_the_run_costs_it(acme: Client) -> None:
    asked = {"pack_type": "decision", "inputs": TABLE, "max_cost_usd": "0.50"}

    answer = await quoted(acme, **asked)
    run = await acme.ended((await acme.submitted(**asked))["run_id"])

    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {
        "pack_type": "decision",
        "reserve_usd": "0.50",
        "expected_usd": {"low": PRICE, "high": PRICE},
        "minimum_fee_usd": "0.01",
        "currency": "USD",
        "policy": run["cost"]["policy"],
        "binding": False,
    }
    assert run["cost"]["actual_usd"] == PRICE
    assert run["cost"]["minimum_fee_usd"] == "0.01"


async def test_without_a_most_it_is_the_least_that_is_admitted(acme: Client) -> None:
    asked = {"pack_type": "decision", "inputs": TABLE}

    told = (await quoted(acme, **asked, max_cost_usd=None)).json()
    null = (await acme.ask("POST", "/v1/quotes", json={**asked, "max_cost_usd": None})).json()
    under = await acme.submit(**asked, max_cost_usd="0.010005")
    at = await acme.submit(**asked, max_cost_usd=told["reserve_usd"])

    assert told["reserve_usd"] == PRICE
    assert told == null
    assert (under.status_code, at.status_code) == (422, 201)
    assert under.json()["required_usd"] == PRICE


@pytest.mark.parametrize(
    ("plan", "least", "fee"), [("unlimited", "0.005", "0.005"), ("free", "0.000001", "0.00")]
)
async def test_of_an_unknown_price_all_of_the_reserve_may_be_charged(
    new_tenant: NewTenant, plan: str, least: str, fee: str
) -> None:
    client = await new_tenant(plan=plan)

    told = (await quoted(client, max_cost_usd=None)).json()

    assert (told["reserve_usd"], told["minimum_fee_usd"]) == (least, fee)
    assert told["expected_usd"] == {"low": "0.00", "high": least}
    assert (await client.submit(max_cost_usd=least)).status_code == 201


async def test_highest_amount_that_can_be_named_is_quoted_as_it_is(acme: Client) -> None:
    assert (await quoted(acme, max_cost_usd="1000000")).json()["reserve_usd"] == "1000000.00"


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("unlimited", {"max_cost_usd": 1}),
    ("unlimited", {"max_cost_usd": "1e3"}),
    ("unlimited", {"max_cost_usd": "0"}),
    ("unlimited", {"inputs": []}),
    ("unlimited", {"inputs": {"sleep_s": -1, "more": 1}}),
    ("unlimited", {"more": 1, "priority": 10, "timebox_s": 0}),
    ("unlimited", {"timebox_s": 10_000_000}),
    ("unlimited", {"pack_type": "nothing"}),
    ("unlimited", {"pack_type": "decision", "inputs": TABLE, "max_cost_usd": "0.01"}),
    ("unlimited", {"max_cost_usd": "0.004999"}),
    ("unlimited", {"run_at": FAR}),
    ("unlimited", {"start_before": "2020-01-01T00:00:00Z"}),
    ("unlimited", {"metadata": {"a": 1}}),
    ("unlimited", {"webhook_url": "ftp://x"}),
    ("picky", {"pack_type": "decision", "inputs": TABLE, "max_cost_usd": "1"}),
    ("small", {"max_cost_usd": "0.500001"}),
]


@pytest.mark.parametrize(("plan", "wrong"), REFUSED)
async def test_what_the_submission_is_refused_for_the_quote_is_too(
    new_tenant: NewTenant, plan: str, wrong: dict[str, Any]
) -> None:
    client = await new_tenant(plan=plan)

    quote, submit = await quoted(client, **wrong), await client.submit(**wrong)

    assert submit.status_code in {403, 422}
    assert quote.status_code == submit.status_code
    told, said = (json.loads(one.content) for one in (quote, submit))
    for each in (told, said):
        del each["instance"], each["request_id"]
    assert told == said


async def test_least_that_is_over_the_plans_most_is_too_high(new_tenant: NewTenant) -> None:
    """What can never be admitted is not quoted."""
    small = await new_tenant(plan="small")
    inputs = {
        "question": "?",
        "options": [f"o{n}" for n in range(1_000)],
        "criteria": [{"name": f"c{n}", "weight": 1, "direction": "max"} for n in range(500)],
    }

    answer = await quoted(small, pack_type="decision", inputs=inputs, max_cost_usd=None)

    assert answer.status_code == 422
    assert answer.json()["type"].endswith("/max-cost-too-high")
    assert answer.json()["limit_usd"] == "0.50"


async def test_quote_asks_nothing_of_the_books(
    served_node: NodeProcess, new_tenant: NewTenant, untouched: Untouched
) -> None:
    """Neither money nor a key is needed, and nothing is written, also for who may not submit."""
    poor = await new_tenant(deposit_usd="0.01")

    async with untouched(poor):
        answers = [await quoted(poor, max_cost_usd="500") for _ in range(3)]
    served_node.admin("POST", f"/admin/v1/tenants/{poor.name}:suspend", {})
    suspended = await quoted(poor, max_cost_usd="500")

    assert [answer.status_code for answer in (*answers, suspended)] == [200] * 4


async def test_body_is_as_strict_as_a_submissions(acme: Client) -> None:
    async def told(**more: Any) -> tuple[int, str]:
        answer = await acme.ask("POST", "/v1/quotes", **more)
        return answer.status_code, answer.json()["type"].rpartition("/")[2]

    json_type = {"Content-Type": "application/json"}
    assert await told(content=b"{", headers=json_type) == (400, "malformed-json")
    assert await told(content=b"[]", headers=json_type) == (400, "malformed-json")
    assert await told(content=b'{"a":1,"a":1}', headers=json_type) == (400, "malformed-json")
    assert await told(content=b"{}", headers={"Content-Type": "text/plain"}) == (
        415,
        "unsupported-media-type",
    )
    large = submission(inputs={"message": "x" * (1 << 20)})
    assert await told(json=large) == (413, "payload-too-large")
    assert await told(json={}) == (422, "invalid-request")
    assert await told(json=submission(idempotency_key="k")) == (422, "invalid-request")
    assert await told(json=submission(), params={"a": "b"}) == (422, "invalid-request")


async def test_large_quote_is_read_where_nobody_waits_for_it(acme: Client) -> None:
    answer = await quoted(acme, inputs={"message": "x" * 500_000})

    assert answer.status_code == 200


async def test_quote_needs_the_scope_to_submit(served_node: NodeProcess, acme: Client) -> None:
    reader = Client(acme.http, served_node.new_key(acme.name, scopes=["runs:read", "budget:read"]))

    assert (await quoted(reader)).status_code == 403
    assert (await quoted(acme.as_nobody())).status_code == 401


async def test_quotes_count_as_reads(new_tenant: NewTenant) -> None:
    reader = await new_tenant(plan="reader")

    answers = [await quoted(reader) for _ in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[0].headers["ratelimit-policy"] == '"read";q=5;w=60'
    assert (await reader.submit(idempotency_key=fresh_key())).status_code == 201
