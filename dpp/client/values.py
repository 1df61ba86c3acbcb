"""What the API answers, as frozen values. Members that a later server adds are ignored.

Money stays the decimal string that it is on the wire; `dpp.money.parse` reads it. `document` is
the whole answer as it came, for who wants to print it or a member that has no field here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import cattrs
from attrs import field, frozen

from dpp.runs import TERMINAL, Status


@frozen(kw_only=True)
class Answer:
    """The base of all answers."""

    document: Mapping[str, Any] = field(factory=dict, repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Structure a document."""
        return _converter.structure({**document, "document": document}, cls)


@frozen(kw_only=True)
class Cost:
    """What a run may cost, holds, and did cost (None until it ended)."""

    max_usd: str
    held_usd: str
    actual_usd: str | None = None
    minimum_fee_usd: str = "0.00"
    currency: str = "USD"
    policy: str = ""


@frozen(kw_only=True)
class Progress:
    """How far the pack says it is, from 0 to 1."""

    fraction: float
    note: str | None = None


@frozen(kw_only=True)
class RunError:
    """Why a run did not complete, and who pays."""

    code: str
    detail: str = ""
    payer: str = ""


@frozen(kw_only=True)
class Run(Answer):
    """A run as it was when it was asked for."""

    run_id: str
    status: Status
    pack_type: str
    idempotency_key: str
    attempt: int
    cost: Cost
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    result: Any = None
    error: RunError | None = None
    trace_id: str = ""

    @property
    def ended(self) -> bool:
        """Say whether the status is final."""
        return self.status in TERMINAL


@frozen(kw_only=True)
class Budget(Answer):
    """A tenant's money: deposited = available + held + spent."""

    deposited_usd: str
    available_usd: str
    held_usd: str
    spent_usd: str
    currency: str = "USD"


@frozen(kw_only=True)
class Transfer(Answer):
    """One line of the ledger."""

    seq: int
    kind: str
    amount_usd: str
    created_at: datetime
    cost_usd: str | None = None
    returned_usd: str | None = None
    run_id: str | None = None
    reference: str | None = None
    reason: str | None = None


def _datetime(text: str, _: type[datetime]) -> datetime:
    return datetime.fromisoformat(text)


_converter = cattrs.Converter()
_converter.register_structure_hook(datetime, _datetime)
