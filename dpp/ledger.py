"""The ledger: what moves money, and between which parts of a budget.

A tenant's budget is four sums, `deposited = available + held + spent`, each at least 0. Three kinds
of facts move it, and together they are the ledger, numbered without a gap per tenant:

    fact         kind                moves submission   reserve             available → held, the
    most the run may cost ending       settle | void       held → spent (cost) and held → available
    (the rest); void has cost 0 transfer     deposit             external → available
                 withdraw            available → external
                 refund              spent → available, of one run, at most what it cost
                 adjust              external ↔ available, signed, with a reason

Nothing here is ever changed or deleted; a correction is a new transfer. A reference names one
transfer per tenant: the same reference again is the same transfer, or refused when amount, kind or
run differ.
"""

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from attrs import frozen

from dpp.money import Micros


@frozen
class Budget:
    """A tenant's budget row; the database refuses one that does not conserve."""

    tenant_id: str
    deposited: Micros
    available: Micros
    held: Micros
    spent: Micros


class Kind(StrEnum):
    """The kinds of transfers that no run makes by itself."""

    DEPOSIT = "deposit"
    WITHDRAW = "withdraw"


@frozen(kw_only=True)
class Posting:
    """A transfer that somebody asks for; `amount` is always above 0."""

    tenant_id: str
    kind: Kind
    amount: Micros
    reference: str
    operator: str
    reason: str | None = None


@frozen
class Posted:
    """The transfer is in the ledger, by this call or an earlier one under the same reference."""

    budget: Budget


@frozen
class ReferenceReused:
    """The reference names a transfer of another amount or kind."""


@frozen
class Overdrawn:
    """More than what is available was to be withdrawn."""

    available: Micros


@frozen
class TenantUnknown:
    """There is no such tenant."""


PostingOutcome: TypeAlias = Posted | ReferenceReused | Overdrawn | TenantUnknown


@frozen(kw_only=True)
class Entry:
    """One line of a tenant's ledger, as the API shows it."""

    seq: int
    kind: str
    amount: Micros
    cost: Micros | None
    returned: Micros | None
    run_id: UUID | None
    reference: str | None
    reason: str | None
    created_at: datetime


@frozen
class EarlierTransfer:
    """What a reference names already."""

    kind: str
    amount: int


def decide(
    posting: Posting, available: Micros, earlier: EarlierTransfer | None
) -> Overdrawn | ReferenceReused | bool:
    """Decide a posting under the budget lock: True = write it, False = it stands already."""
    assert posting.amount > 0
    if earlier is not None:
        same = (earlier.kind, earlier.amount) == (posting.kind, posting.amount)
        return False if same else ReferenceReused()
    if posting.kind is Kind.WITHDRAW and available < posting.amount:
        return Overdrawn(available)
    return True
