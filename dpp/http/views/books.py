"""Budgets and the lines of the ledger, as they go out."""

from typing import Literal

from attrs import frozen

from dpp.http.views.encoding import USD, Time
from dpp.ledger import Budget, Entry
from dpp.money import show


@frozen(slots=False)
class BudgetView:
    """A tenant's money: deposited = available + held + spent."""

    deposited_usd: str
    available_usd: str
    held_usd: str
    spent_usd: str
    currency: Literal["USD"]


@frozen(slots=False)
class TransferView:
    """One line of the ledger."""

    transfer_id: str
    seq: int
    kind: str
    amount_usd: str
    cost_usd: str | None
    returned_usd: str | None
    run_id: str | None
    reference: str | None
    reason: str | None
    created_at: Time


@frozen(slots=False)
class TransferList:
    """A page of the ledger, newest first."""

    items: list[TransferView]
    next_cursor: str | None


def budget_view(budget: Budget) -> BudgetView:
    """Return a budget as the API and the command line show it."""
    return BudgetView(
        show(budget.deposited),
        show(budget.available),
        show(budget.held),
        show(budget.spent),
        USD,
    )


def transfer_view(entry: Entry) -> TransferView:
    """Return a line of the ledger as the API shows it."""
    return TransferView(
        transfer_id=transfer_id(entry.seq),
        seq=entry.seq,
        kind=entry.kind,
        amount_usd=show(entry.amount),
        cost_usd=None if entry.cost is None else show(entry.cost),
        returned_usd=None if entry.returned is None else show(entry.returned),
        run_id=None if entry.run_id is None else str(entry.run_id),
        reference=entry.reference,
        reason=entry.reason,
        created_at=entry.created_at,
    )


def transfer_id(seq: int) -> str:
    """Return the name of a line of the ledger: its number is the tenant's own."""
    return f"tr_{seq}"
