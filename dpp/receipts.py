"""Receipts: what a run cost and why, once its reserve is resolved; a void has one too.

Derived each time from the two facts that the ledger is made of, the submission and the ending, and
from nothing else. Neither is ever changed, so a receipt asked for again is the same, word for word.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import frozen

from dpp.money import Micros
from dpp.runs import Status

VERSION: Final = 1


@frozen(kw_only=True)
class Bought:
    """The submission as a receipt needs it; `seq` is the reserve's place in the ledger."""

    run_id: UUID
    tenant_id: str
    seq: int
    pack_type: str
    pack_version: str
    inputs_sha256: bytes
    max_cost: Micros
    policy: str
    created_at: datetime


@frozen(kw_only=True)
class Resolution:
    """The ending as a receipt needs it; `seq` is the settle's or void's place in the ledger."""

    seq: int
    status: Status
    cost: Micros
    returned: Micros
    attempts_spent: int
    result_sha256: bytes | None
    finished_at: datetime


@frozen(kw_only=True)
class Receipt:
    """One a resolution. `reserve_seq` and `resolution_seq` name the two lines of the ledger."""

    run_id: UUID
    tenant_id: str
    pack_type: str
    pack_version: str
    status: Status
    attempt: int
    inputs_sha256: bytes
    result_sha256: bytes | None
    reserved: Micros
    cost: Micros
    returned: Micros
    policy: str
    reserve_seq: int
    resolution_seq: int
    created_at: datetime
    settled_at: datetime


@frozen
class Unresolved:
    """The run has not ended; it holds its reserve."""

    status: Status


def receipt_of(bought: Bought, resolution: Resolution) -> Receipt:
    """Return the receipt of a run that has ended."""
    assert resolution.cost + resolution.returned == bought.max_cost, bought.run_id
    assert bought.seq < resolution.seq, bought.run_id
    return Receipt(
        run_id=bought.run_id,
        tenant_id=bought.tenant_id,
        pack_type=bought.pack_type,
        pack_version=bought.pack_version,
        status=resolution.status,
        attempt=resolution.attempts_spent + 1,
        inputs_sha256=bought.inputs_sha256,
        result_sha256=resolution.result_sha256,
        reserved=bought.max_cost,
        cost=resolution.cost,
        returned=resolution.returned,
        policy=bought.policy,
        reserve_seq=bought.seq,
        resolution_seq=resolution.seq,
        created_at=bought.created_at,
        settled_at=resolution.finished_at,
    )
