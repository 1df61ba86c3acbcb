"""`GET /v1/budget` and `GET /v1/transfers` on a real node: one ledger, told two ways."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.http.api.conftest import NewTenant
from tests.node_client import Client
from tests.node_process import NodeProcess

MEMBERS = {
    *("transfer_id", "seq", "kind", "amount_usd", "cost_usd", "returned_usd", "run_id"),
    *("reference", "reason", "created_at"),
}


def budget(deposited: str, available: str, held: str, spent: str) -> dict[str, str]:
    return {
        "deposited_usd": deposited,
        "available_usd": available,
        "held_usd": held,
        "spent_usd": spent,
        "currency": "USD",
    }


async def test_fresh_tenant_has_what_was_deposited(acme: Client) -> None:
    transfers = await acme.get("/v1/transfers")

    assert await acme.get("/v1/budget") == budget("10.00", "10.00", "0.00", "0.00")
    (first,) = transfers["items"]
    assert set(first) == MEMBERS
    assert (first["kind"], first["seq"], first["amount_usd"]) == ("deposit", 1, "10.00")
    assert first["run_id"] is first["cost_usd"] is None
    assert transfers["next_cursor"] is None


async def test_budget_follows_a_run_from_reserve_to_settlement(acme: Client) -> None:
    budgets = [await acme.get("/v1/budget")]
    run = await acme.submitted(max_cost_usd="2.50", inputs={"cost_usd": "1.000001", "sleep_s": 600})
    await acme.until_status(run["run_id"], "PROCESSING")
    budgets.append(await acme.get("/v1/budget"))
    await acme.cancel(run["run_id"])
    await acme.ended(run["run_id"])
    budgets.append(await acme.get("/v1/budget"))

    assert budgets == [
        budget("10.00", "10.00", "0.00", "0.00"),
        budget("10.00", "7.50", "2.50", "0.00"),
        budget("10.00", "8.999999", "0.00", "1.000001"),
    ]


async def test_every_way_that_money_moves_is_a_line(acme: Client, served_node: NodeProcess) -> None:
    path = f"/admin/v1/tenants/{acme.name}"
    completed = await acme.submitted(max_cost_usd="1.00", inputs={"cost_usd": "0.25"})
    await acme.ended(completed["run_id"])
    canceled = await acme.submitted(max_cost_usd="2.00", inputs={"sleep_s": 600})
    await acme.cancel(canceled["run_id"])
    await acme.ended(canceled["run_id"])
    served_node.admin("POST", f"{path}/deposits", {"amount_usd": "5.00", "reference": "inv-1"})
    served_node.admin(
        "POST",
        f"{path}/withdrawals",
        {"amount_usd": "1.50", "reference": "out-1", "reason": "asked"},
    )
    refund = {"run_id": completed["run_id"], "amount_usd": "0.10", "reference": "back-1"}
    served_node.admin("POST", f"{path}/refunds", {**refund, "reason": "it was late"})
    adjust = {"amount_usd": "-0.50", "reference": "mend-1", "reason": "booked twice"}
    served_node.admin("POST", f"{path}/adjusts", adjust)

    lines = (await acme.get("/v1/transfers"))["items"]

    def told(line: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(
            line[name] for name in ("kind", "amount_usd", "cost_usd", "returned_usd", "run_id")
        )

    assert [line["seq"] for line in lines] == [9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert [told(line) for line in lines] == [
        ("adjust", "-0.50", None, None, None),
        ("refund", "0.10", None, None, completed["run_id"]),
        ("withdraw", "1.50", None, None, None),
        ("deposit", "5.00", None, None, None),
        ("void", "2.00", "0.00", "2.00", canceled["run_id"]),
        ("reserve", "2.00", None, None, canceled["run_id"]),
        ("settle", "1.00", "0.25", "0.75", completed["run_id"]),
        ("reserve", "1.00", None, None, completed["run_id"]),
        ("deposit", "10.00", None, None, None),
    ]
    assert [(line["reference"], line["reason"]) for line in lines[:4]] == [
        ("mend-1", "booked twice"),
        ("back-1", "it was late"),
        ("out-1", "asked"),
        ("inv-1", None),
    ]
    assert await acme.get("/v1/budget") == budget("13.00", "12.85", "0.00", "0.15")
    assert (await acme.run(completed["run_id"]))["cost"]["actual_usd"] == "0.25"


async def test_ledger_goes_on_page_by_page_and_adds_up(acme: Client) -> None:
    for _ in range(7):
        await acme.ended((await acme.submitted(inputs={"cost_usd": "0.002"}))["run_id"])

    lines: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 4}
    while query.get("cursor", "") is not None:
        page = await acme.get("/v1/transfers", **query)
        assert len(page["items"]) <= 4
        lines += page["items"]
        query["cursor"] = page["next_cursor"]

    assert [line["seq"] for line in lines] == list(range(15, 0, -1))
    spent = sum(Decimal(line["cost_usd"]) for line in lines if line["kind"] == "settle")
    assert spent == Decimal("0.014")
    assert await acme.get("/v1/budget") == budget("10.00", "9.986", "0.00", "0.014")


async def test_settlement_is_told_with_what_it_cost_and_returned(acme: Client) -> None:
    run = await acme.submitted(max_cost_usd="0.30", inputs={"cost_usd": "0.1"})
    await acme.ended(run["run_id"])

    settle, reserve, _ = (await acme.get("/v1/transfers"))["items"]

    assert Decimal(settle["cost_usd"]) + Decimal(settle["returned_usd"]) == Decimal("0.30")
    assert reserve["amount_usd"] == settle["amount_usd"] == "0.30"
    assert settle["run_id"] == reserve["run_id"] == run["run_id"]


async def test_tenant_without_money_may_look_at_it(
    served_node: NodeProcess, new_tenant: NewTenant
) -> None:
    poor = await new_tenant(deposit_usd="0.000001")

    answer = await poor.submit()

    assert await poor.get("/v1/budget") == budget("0.000001", "0.000001", "0.00", "0.00")
    assert answer.status_code == 402
    assert answer.json()["available_usd"] == "0.000001"
