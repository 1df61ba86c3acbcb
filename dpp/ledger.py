"""The ledger: what moves money, and between which parts of a budget.

A tenant's budget is four sums, `deposited = available + held + spent`, each at least 0. Three kinds
of facts move it, and together they are the ledger, numbered without a gap per tenant:

    fact        kind           moves
    submission  reserve        available → held: the most that the run may cost
    ending      settle | void  held → spent: the cost; held → available: the rest. A void costs 0
    transfer    deposit        external → available
                withdraw       available → external, at most what is available
                refund         spent → available, of one run: all of them at most what it cost
                adjust         external ↔ available, signed: an operator's correction

Nothing here is ever changed or deleted; a correction is a new transfer. A refund leaves its run and
the usage as they are. A reference names one transfer per tenant: the same reference again is the
same transfer, or refused when amount, kind or run differ.

`decide` is pure and asked under the budget lock, of what was read in statements after it. It need
not look at `deposited`, which moves with `available` and is never under it.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias
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
    REFUND = "refund"
    ADJUST = "adjust"


@frozen
class Signs:
    """How many times its amount a transfer adds to each part; what is held it never touches."""

    deposited: int
    available: int
    spent: int


SIGNS: Final[Mapping[Kind, Signs]] = {
    Kind.DEPOSIT: Signs(1, 1, 0),
    Kind.WITHDRAW: Signs(-1, -1, 0),
    Kind.REFUND: Signs(0, 1, -1),
    Kind.ADJUST: Signs(1, 1, 0),
}


@frozen(kw_only=True)
class Posting:
    """A transfer that somebody asks for; `amount` is above 0, only an adjust's may be below it.

    A refund names its run, and no other kind does. A refund and an adjust say why.
    """

    tenant_id: str
    kind: Kind
    amount: Micros
    reference: str
    operator: str
    run_id: UUID | None = None
    reason: str | None = None

    def __attrs_post_init__(self) -> None:
        assert self.amount > 0 or (self.kind is Kind.ADJUST and self.amount < 0)
        assert (self.kind is Kind.REFUND) == (self.run_id is not None)
        assert self.reason or self.kind in {Kind.DEPOSIT, Kind.WITHDRAW}


@frozen
class Posted:
    """The transfer is in the ledger, by this call or an earlier one under the same reference."""

    budget: Budget


@frozen
class ReferenceReused:
    """The reference names a transfer of another amount, kind or run."""


@frozen
class Overdrawn:
    """More than what is available was to be taken out."""

    available: Micros


@frozen
class NoSuchRun:
    """The tenant has no such run: nothing of it can be refunded."""


@frozen
class NotEnded:
    """The run has not ended: it has cost nothing yet."""


@frozen
class RefundTooHigh:
    """More than what is left of the run's cost was to be refunded."""

    cost: Micros
    refunded: Micros

    @property
    def left(self) -> Micros:
        """Return what may still be refunded."""
        return Micros(self.cost - self.refunded)


@frozen
class TenantUnknown:
    """There is no such tenant."""


PostingRefusal: TypeAlias = ReferenceReused | Overdrawn | NoSuchRun | NotEnded | RefundTooHigh
PostingOutcome: TypeAlias = Posted | PostingRefusal | TenantUnknown


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
    run_id: UUID | None = None

    def is_it(self, posting: Posting) -> bool:
        """Say whether it is the transfer that is asked for, once more."""
        mine = posting.kind, posting.amount, posting.run_id
        return (self.kind, self.amount, self.run_id) == mine


@frozen
class RefundableRun:
    """A run of the tenant's: its cost (None = it has not ended), and the sum of its refunds."""

    cost: Micros | None
    refunded: Micros


@frozen
class Read:
    """What was read for a posting; `run` is a refund's, None = the tenant has none such."""

    available: Micros
    earlier: EarlierTransfer | None = None
    run: RefundableRun | None = None


def decide(posting: Posting, read: Read) -> PostingRefusal | bool:
    """Decide a posting under the budget lock: True = write it, False = it stands already."""
    if read.earlier is not None:
        return False if read.earlier.is_it(posting) else ReferenceReused()
    if posting.kind is Kind.REFUND:
        return _decide_refund(posting.amount, read.run)
    if read.available + SIGNS[posting.kind].available * posting.amount < 0:
        return Overdrawn(read.available)
    return True


def _decide_refund(
    amount: Micros, run: RefundableRun | None
) -> NoSuchRun | NotEnded | RefundTooHigh | bool:
    if run is None:
        return NoSuchRun()
    if run.cost is None:
        return NotEnded()
    if run.refunded + amount > run.cost:
        return RefundTooHigh(run.cost, run.refunded)
    return True
