"""Receipts, recomputed from the ledger, the inputs and the result."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from dpp.fingerprints import canonical
from tests.http.api.conftest import NewTenant
from tests.node_books import Books
from tests.node_client import Client

MEMBERS = {
    *("receipt_version", "run_id", "tenant_id", "pack_type", "pack_version", "status", "attempt"),
    *("inputs_sha256", "result_sha256", "reserved_usd", "cost_usd", "returned_usd", "policy"),
    *("transfer_ids", "created_at", "settled_at"),
}


async def recomputed(client: Client, run: dict[str, Any], inputs: Any) -> dict[str, Any]:
    """Make the receipt again from what else the API tells: the ledger, the run, the result."""
    lines = (await client.get("/v1/transfers", limit=200))["items"]
    reserve, resolution = sorted(
        (line for line in lines if line["run_id"] == run["run_id"]), key=lambda line: line["seq"]
    )
    assert (reserve["kind"], resolution["kind"] in {"settle", "void"}) == ("reserve", True)
    assert resolution["kind"] == "settle" or resolution["cost_usd"] == "0.00"
    (version,) = {
        pack["version"]
        for pack in (await client.get("/v1/packs"))["items"]
        if pack["pack_type"] == run["pack_type"]
    }
    result = await client.ask("GET", run["links"]["result"])
    done = run["status"] == "COMPLETED"
    return {
        "receipt_version": 1,
        "run_id": run["run_id"],
        "tenant_id": client.name,
        "pack_type": run["pack_type"],
        "pack_version": version,
        "status": run["status"],
        "attempt": run["attempt"],
        "inputs_sha256": sha256(canonical(inputs)).hexdigest(),
        "result_sha256": sha256(result.content).hexdigest() if done else None,
        "reserved_usd": reserve["amount_usd"],
        "cost_usd": resolution["cost_usd"],
        "returned_usd": resolution["returned_usd"],
        "policy": run["cost"]["policy"],
        "transfer_ids": {
            "reserve": reserve["transfer_id"],
            "resolution": resolution["transfer_id"],
        },
        "created_at": reserve["created_at"],
        "settled_at": resolution["created_at"],
    }


@pytest.mark.parametrize(
    ("inputs", "cost", "returned"),
    [
        ({"cost_usd": "0.03", "message": "\u00e9"}, "0.03", "0.07"),
        ({}, "0.00", "0.10"),
        ({"cost_usd": "0.10"}, "0.10", "0.00"),
        ({"message": "x" * 100_000}, "0.00", "0.10"),  # too large to be inline
        ({"cost_usd": "0.03", "fail": True}, "0.03", "0.07"),
        ({"fail": True}, "0.005", "0.095"),  # the minimum fee
    ],
)
async def test_receipt_is_what_the_ledger_says(
    acme: Client, inputs: dict[str, Any], cost: str, returned: str
) -> None:
    run = await acme.submitted(inputs=inputs, max_cost_usd="0.10")
    run = await acme.ended(run["run_id"])

    answer = await acme.ask("GET", run["links"]["receipt"])
    receipt = answer.json()

    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert set(receipt) == MEMBERS
    assert receipt == await recomputed(acme, run, inputs)
    assert (receipt["cost_usd"], receipt["returned_usd"]) == (cost, returned)


async def test_void_has_a_receipt(new_tenant: NewTenant) -> None:
    capped = await new_tenant(plan="capped")
    busy = await capped.submitted(inputs={"sleep_s": 600})
    waiting = await capped.submitted(max_cost_usd="0.10")
    assert (await capped.cancel(waiting["run_id"])).status_code == 200
    run = await capped.run(waiting["run_id"])

    receipt = await capped.get(run["links"]["receipt"])
    await capped.cancel(busy["run_id"])
    await capped.ended(busy["run_id"])

    assert receipt == await recomputed(capped, run, {})
    assert (receipt["status"], receipt["cost_usd"]) == ("CANCELED", "0.00")
    assert receipt["returned_usd"] == receipt["reserved_usd"] == "0.10"


async def test_receipt_stays_as_it_is_whatever_is_refunded(acme: Client, books: Books) -> None:
    run = await acme.submitted(inputs={"cost_usd": "0.05"}, max_cost_usd="0.10")
    run = await acme.ended(run["run_id"])
    before = (await acme.ask("GET", run["links"]["receipt"])).content

    refund = {"amount_usd": "0.05", "run_id": run["run_id"], "reference": "r", "reason": "a test"}
    told = books.node.ask_admin("POST", f"/admin/v1/tenants/{acme.name}/refunds", refund)

    assert told.status_code == 200, told.text
    assert (await acme.ask("GET", run["links"]["receipt"])).content == before


async def test_no_receipt_before_the_end(acme: Client) -> None:
    run = await acme.submitted(inputs={"sleep_s": 600})
    await acme.until_status(run["run_id"], "PROCESSING")

    answer = await acme.ask("GET", f"/v1/runs/{run['run_id']}/receipt")
    await acme.cancel(run["run_id"])
    await acme.ended(run["run_id"])

    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/run-not-finished")
    assert answer.json()["run_status"] == "PROCESSING"


async def test_receipt_is_of_its_tenant_alone(acme: Client, new_tenant: NewTenant) -> None:
    other = await new_tenant()
    run = await acme.ended((await acme.submitted())["run_id"])

    foreign = await other.ask("GET", run["links"]["receipt"])
    never = await acme.ask("GET", "/v1/runs/018f0000-0000-7000-8000-000000000000/receipt")

    told = [
        {name: json.loads(one.content)[name] for name in ("type", "title", "status", "detail")}
        for one in (foreign, never)
    ]
    assert (foreign.status_code, told[0]) == (404, told[1])
