"""`POST /v1/runs` on a real node: what is answered, what is replayed, what the run becomes."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.http.api.conftest import NewTenant, Untouched
from tests.node_client import Client, problem, submission

MEMBERS = {
    *("run_id", "status", "pack_type", "idempotency_key", "attempt", "created_at", "started_at"),
    *("finished_at", "expires_at", "result_expires_at", "cost", "progress", "metadata", "result"),
    *("result_sha256", "error", "trace_id", "links"),
}
DECISION = {
    "question": "Which car?",
    "options": ["a", "b"],
    "criteria": [
        {"name": "price", "weight": 2, "direction": "min"},
        {"name": "range", "weight": 1, "direction": "max"},
    ],
    "scores": {"a": {"price": 20, "range": 300}, "b": {"price": 30, "range": 500}},
}


async def test_created_run_is_queued_and_its_money_is_held(acme: Client) -> None:
    answer = await acme.submit(
        max_cost_usd="1.00", idempotency_key="first", inputs={"sleep_s": 600}, timebox_s=700
    )
    run = answer.json()
    budget = await acme.get("/v1/budget")
    await acme.cancel(run["run_id"])

    assert answer.status_code == 201
    assert answer.headers["location"] == run["links"]["self"] == f"/v1/runs/{run['run_id']}"
    assert run["links"]["cancel"] == f"/v1/runs/{run['run_id']}:cancel"
    assert answer.headers["x-dpp-cost-reserved"] == "1.00"
    assert answer.headers["x-dpp-cost-minimum-fee"] == "0.02"
    assert "x-dpp-cost-actual" not in answer.headers
    assert "idempotency-replayed" not in answer.headers
    assert "ratelimit" not in answer.headers  # its plan has no limit
    assert set(run) == MEMBERS
    assert (run["status"], run["pack_type"], run["attempt"]) == ("QUEUED", "echo", 1)
    assert run["idempotency_key"] == "first"
    assert run["started_at"] is run["finished_at"] is run["result"] is run["error"] is None
    assert {name: run["cost"][name] for name in ("max_usd", "held_usd", "actual_usd")} == {
        "max_usd": "1.00",
        "held_usd": "1.00",
        "actual_usd": None,
    }
    created, expires = (datetime.fromisoformat(run[name]) for name in ("created_at", "expires_at"))
    assert expires - created == timedelta(days=7)
    assert created.utcoffset() == timedelta(0)
    assert (budget["available_usd"], budget["held_usd"]) == ("9.00", "1.00")


async def test_completed_run_has_its_result_its_digest_and_its_cost(acme: Client) -> None:
    run = await acme.ended(
        (await acme.submitted(inputs={"message": {"b": [1, "é"]}, "cost_usd": "0.004"}))["run_id"]
    )
    answer = await acme.ask("GET", run["links"]["self"])

    assert (run["status"], run["result"]) == ("COMPLETED", {"message": {"b": [1, "é"]}})
    stored = json.dumps(run["result"], separators=(",", ":"), ensure_ascii=False).encode()
    assert run["result_sha256"] == hashlib.sha256(stored).hexdigest()
    assert (run["cost"]["actual_usd"], run["cost"]["held_usd"]) == ("0.004", "0.00")
    assert answer.headers["x-dpp-cost-actual"] == "0.004"
    stamps = [
        datetime.fromisoformat(run[f"{what}_at"]) for what in ("created", "started", "finished")
    ]
    assert stamps == sorted(stamps)


async def test_decision_is_decided_and_costs_its_price(acme: Client) -> None:
    run = await acme.submitted(pack_type="decision", inputs=DECISION, max_cost_usd="0.05")

    run = await acme.ended(run["run_id"])

    assert run["status"] == "COMPLETED"
    assert run["cost"]["actual_usd"] == "0.010004"
    assert run["result"]["verdict"] == "decided"
    assert [row["option"] for row in run["result"]["ranking"]] == ["a", "b"]
    assert run["result"]["flip"] is not None
    assert len(run["result"]["proof"]["inputs_sha256"]) == 64


async def test_same_decision_again_has_the_same_bytes(acme: Client) -> None:
    runs = [
        await acme.ended(
            (await acme.submitted(pack_type="decision", inputs=inputs, max_cost_usd="0.05"))[
                "run_id"
            ]
        )
        for inputs in (DECISION, dict(reversed(DECISION.items())))
    ]

    assert len({run["result_sha256"] for run in runs}) == 1


async def test_replay_is_the_same_run_as_it_is_now(acme: Client) -> None:
    first = await acme.submit(idempotency_key="k", inputs={"message": 1, "cost_usd": "0.001"})
    ended = await acme.ended(first.json()["run_id"])
    before = await acme.books()

    again = await acme.submit(
        idempotency_key='"k"', inputs={"cost_usd": "0.001", "message": 1}, max_cost_usd="0.010"
    )

    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert again.json() == ended
    assert again.headers["x-dpp-cost-actual"] == "0.001"
    assert again.headers["location"] == first.headers["location"]
    assert await acme.books() == before


@pytest.mark.parametrize(
    "other",
    [
        {"max_cost_usd": "0.02"},
        {"inputs": {"message": 1.0}},
        {"inputs": {"message": "1"}},
        {"inputs": {"message": 1, "sleep_s": 0}},
        {"priority": 5},
        {"timebox_s": 90},
        {"pack_type": "nothing"},
    ],
)
async def test_same_key_for_another_request_is_422(acme: Client, other: dict[str, Any]) -> None:
    first = {"idempotency_key": "k", "inputs": {"message": 1}}
    await acme.ended((await acme.submitted(**first))["run_id"])
    before = await acme.books()

    answer = await acme.submit(**{**first, **other})

    assert (answer.status_code, problem(answer)) == (422, "idempotency-key-reused")
    assert await acme.books() == before


async def test_key_is_its_tenants_and_case_matters(acme: Client, new_tenant: NewTenant) -> None:
    other = await new_tenant()

    runs = [
        await acme.submitted(idempotency_key="k"),
        await acme.submitted(idempotency_key="K"),
        await other.submitted(idempotency_key="k", max_cost_usd="0.02"),
    ]

    assert len({run["run_id"] for run in runs}) == 3


async def test_refused_submission_does_not_burn_its_key(new_tenant: NewTenant) -> None:
    poor = await new_tenant(plan="free", deposit_usd="0.01")

    refused = await poor.submit(idempotency_key="k", max_cost_usd="0.02")
    wrong = await poor.submit(idempotency_key="k", pack_type="nothing")
    admitted = await poor.submit(idempotency_key="k")

    assert [answer.status_code for answer in (refused, wrong, admitted)] == [402, 422, 201]
    assert "idempotency-replayed" not in admitted.headers


async def test_the_last_micro_may_be_reserved_and_not_one_more(new_tenant: NewTenant) -> None:
    client = await new_tenant(plan="free", deposit_usd="1.000001")
    inputs = {"sleep_s": 600}

    over = await client.submit(max_cost_usd="1.000002")
    all_of_it = await client.submit(max_cost_usd="1.000001", inputs=inputs)
    one_more = await client.submit(max_cost_usd="0.000001")
    await client.cancel(all_of_it.json()["run_id"])

    assert [answer.status_code for answer in (over, all_of_it, one_more)] == [402, 201, 402]
    assert (over.json()["available_usd"], over.json()["required_usd"]) == ("1.000001", "1.000002")
    assert (one_more.json()["available_usd"], one_more.json()["required_usd"]) == (
        "0.00",
        "0.000001",
    )


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({"pack_type": 1, "priority": 10, "more": 1}, {"/pack_type", "/priority", "/more"}),
        (
            {"inputs": [], "timebox_s": 3601, "max_cost_usd": "1e3"},
            {"/inputs", "/timebox_s", "/max_cost_usd"},
        ),
        (
            {"inputs": {"sleep_s": -1, "fail": "no", "x": 1}},
            {"/inputs/sleep_s", "/inputs/fail", "/inputs/x"},
        ),
    ],
)
async def test_all_errors_are_told_at_once(
    acme: Client, untouched: Untouched, members: dict[str, Any], pointers: set[str]
) -> None:
    async with untouched(acme):
        answer = await acme.submit(**members)

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert {error["pointer"] for error in answer.json()["errors"]} == pointers


@pytest.mark.parametrize("media", ["application/json", "Application/JSON; charset=UTF-8"])
async def test_json_is_taken_however_it_is_named(acme: Client, media: str) -> None:
    answer = await acme.ask(
        "POST",
        "/v1/runs",
        content=json.dumps(submission()).encode(),
        headers={"Content-Type": media, "Idempotency-Key": "k"},
    )

    assert answer.status_code == 201
