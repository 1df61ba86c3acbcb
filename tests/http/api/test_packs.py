"""The list of packs: what a tenant may use, and what it takes, gives and costs."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.http.api.conftest import NewTenant
from tests.node_client import Client, submission
from tests.node_process import NodeProcess

TABLE = {
    "question": "Which?",
    "options": ["a", "b"],
    "criteria": [{"name": "price", "weight": 1, "direction": "min"}],
    "scores": {"a": {"price": 1}, "b": {"price": 2}},
}


async def packs_of(client: Client) -> dict[str, Any]:
    answer = await client.ask("GET", "/v1/packs")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert set(answer.json()) == {"items"}
    return {pack["pack_type"]: pack for pack in answer.json()["items"]}


async def test_list_says_what_each_pack_is(shared: Client) -> None:
    packs = await packs_of(shared)

    assert list(packs) == ["decision", "echo"]
    for pack in packs.values():
        assert set(pack) == {
            *("pack_type", "version", "input_schema", "output_schema", "price", "limits")
        }
        Draft202012Validator.check_schema(pack["input_schema"])
        Draft202012Validator.check_schema(pack["output_schema"])
    assert packs["decision"]["price"] == {
        "rule": "$0.01 and $0.000001 for each option × criterion",
        "rates_usd": {"base": "0.01", "cell": "0.000001"},
    }
    assert packs["echo"]["price"]["rates_usd"] == {}
    assert packs["decision"]["version"] == "1.0.0"


async def test_list_is_what_the_plan_allows(new_tenant: NewTenant) -> None:
    picky = await new_tenant(plan="picky")

    refused = await picky.submit(pack_type="decision", inputs=TABLE, max_cost_usd="1")

    assert [*await packs_of(picky)] == refused.json()["allowed"] == ["echo"]


async def test_limits_are_those_that_submissions_meet(new_tenant: NewTenant) -> None:
    small, free = await new_tenant(plan="small"), await new_tenant()

    limits = (await packs_of(small))["echo"]["limits"]
    longest, most = limits["timebox_max_s"], limits["max_cost_usd"]

    assert limits["result_max_bytes"] == 64 << 20
    assert most == "0.50"
    assert (await packs_of(free))["echo"]["limits"]["max_cost_usd"] == "1000000.00"
    assert (await small.submit(max_cost_usd=most, timebox_s=longest)).status_code == 201
    assert (await small.submit(timebox_s=longest + 1)).status_code == 422
    assert (await small.submit(max_cost_usd="0.500001")).status_code == 422
    assert 0 < limits["timebox_s"] <= longest


@pytest.mark.parametrize(
    ("pack_type", "good", "bad"),
    [
        (
            "echo",
            [{}, {"message": [1, {"a": None}], "cost_usd": "0.000001", "sleep_s": 0.01}],
            [{"more": 1}, {"sleep_s": -1}, {"sleep_s": "1"}, {"fail": 1}, {"cost_usd": "1e3"}],
        ),
        (
            "decision",
            [{"question": "?"}, TABLE],
            [
                {},
                {"question": ""},
                {"question": "?", "options": "ab"},
                {"question": "?", "method": "guess"},
                {"question": "?", "criteria": [{"name": "a", "weight": 1}]},
                {
                    "question": "?",
                    "criteria": [{"name": "a", "weight": 1, "direction": "max", "more": 1}],
                },
            ],
        ),
    ],
)
async def test_input_schema_and_node_agree(
    acme: Client, pack_type: str, good: list[Any], bad: list[Any]
) -> None:
    pack = (await packs_of(acme))[pack_type]
    validator = Draft202012Validator(pack["input_schema"])

    for inputs in good:
        answer = await acme.submit(
            **submission(pack_type=pack_type, inputs=inputs, max_cost_usd="1")
        )
        assert (answer.status_code, validator.is_valid(inputs)) == (201, True), inputs
        run = await acme.ended(answer.json()["run_id"])
        Draft202012Validator(pack["output_schema"]).validate(run["result"])
    for inputs in bad:
        answer = await acme.submit(
            **submission(pack_type=pack_type, inputs=inputs, max_cost_usd="1")
        )
        assert (answer.status_code, validator.is_valid(inputs)) == (422, False), inputs


async def test_list_needs_its_scope_and_takes_no_parameters(
    served_node: NodeProcess, acme: Client
) -> None:
    poor = Client(acme.http, served_node.new_key(acme.name, scopes=["budget:read"]))

    assert (await poor.ask("GET", "/v1/packs")).status_code == 403
    assert (await acme.as_nobody().ask("GET", "/v1/packs")).status_code == 401
    assert (await acme.ask("GET", "/v1/packs", params={"all": "1"})).status_code == 422
