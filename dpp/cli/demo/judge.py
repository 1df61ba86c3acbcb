"""What must be true of a demo, computed from what it was told and compared with what the node says.

Nothing here asks the node or trusts it: the ledger is added up line by line, in integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dpp import money

if TYPE_CHECKING:
    from dpp.client import Budget, Run, Transfer


def micros(amount: Decimal | str | None) -> int:
    """Return an amount of the wire in micro-dollars; none is 0."""
    return (
        0
        if amount is None
        else money.parse(f"{amount:f}" if isinstance(amount, Decimal) else amount)
    )


def fold(transfers: Iterable[Transfer]) -> dict[str, int]:
    """Add up a ledger: what the budget must be."""
    budget = {"deposited": 0, "available": 0, "held": 0, "spent": 0}
    for line in transfers:
        amount = micros(line.amount_usd)
        match line.kind:
            case "deposit":
                budget["deposited"] += amount
                budget["available"] += amount
            case "reserve":
                budget["available"] -= amount
                budget["held"] += amount
            case "settle" | "void":
                cost, returned = micros(line.cost_usd), micros(line.returned_usd)
                budget["held"] -= cost + returned
                budget["spent"] += cost
                budget["available"] += returned
            case other:
                message = f"no demo makes a {other}"
                raise ValueError(message)
    return budget


def shown(budget: Budget) -> dict[str, int]:
    """Return a budget as the node gives it, in micro-dollars."""
    return {
        "deposited": micros(budget.deposited_usd),
        "available": micros(budget.available_usd),
        "held": micros(budget.held_usd),
        "spent": micros(budget.spent_usd),
    }


def judge(
    *,
    run: Run,
    price: int,
    deposit: int,
    budget: Budget,
    transfers: Iterable[Transfer],
    audit: Mapping[str, Any],
) -> dict[str, bool]:
    """Return each claim and whether it holds."""
    lines = list(transfers)
    must_be = {"deposited": deposit, "available": deposit - price, "held": 0, "spent": price}
    decided = isinstance(run.result, dict) and run.result.get("verdict") == "decided"
    return {
        "the run is COMPLETED": run.status == "COMPLETED",
        "it decided the question": decided,
        "it cost what the pack's price says": micros(run.cost.actual_usd) == price,
        "the ledger has three lines": [line.kind for line in lines]
        == ["settle", "reserve", "deposit"],
        "the ledger adds up to the budget": fold(lines) == shown(budget) == must_be,
        "the audit is clean": audit.get("ok") is True,
    }
