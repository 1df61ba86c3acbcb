"""Receipts, as they go out."""

from typing import Any, Literal, cast

from attrs import frozen

from dpp.http.views.books import transfer_id
from dpp.http.views.encoding import Time
from dpp.http.views.runs import _policy
from dpp.money import show
from dpp.receipts import Receipt


@frozen(slots=False)
class TransferNames:
    """The two lines of the ledger that a receipt is about."""

    reserve: str
    resolution: str


@frozen(kw_only=True, slots=False)
class ReceiptView:
    """What a run cost, and why: one a resolution, of voids too."""

    receipt_version: Literal[1]
    run_id: str
    tenant_id: str
    pack_type: str
    pack_version: str
    status: Literal["COMPLETED", "FAILED", "CANCELED", "EXPIRED"]
    attempt: int
    inputs_sha256: str
    result_sha256: str | None
    reserved_usd: str
    cost_usd: str
    returned_usd: str
    policy: str
    transfer_ids: TransferNames
    created_at: Time
    settled_at: Time


def receipt_view(receipt: Receipt) -> ReceiptView:
    """Return a receipt as the API shows it."""
    digest = receipt.result_sha256
    return ReceiptView(
        receipt_version=1,
        run_id=str(receipt.run_id),
        tenant_id=receipt.tenant_id,
        pack_type=receipt.pack_type,
        pack_version=receipt.pack_version,
        status=cast("Any", receipt.status.value),
        attempt=receipt.attempt,
        inputs_sha256=receipt.inputs_sha256.hex(),
        result_sha256=None if digest is None else digest.hex(),
        reserved_usd=show(receipt.reserved),
        cost_usd=show(receipt.cost),
        returned_usd=show(receipt.returned),
        policy=_policy(receipt.policy),
        transfer_ids=TransferNames(
            transfer_id(receipt.reserve_seq), transfer_id(receipt.resolution_seq)
        ),
        created_at=receipt.created_at,
        settled_at=receipt.settled_at,
    )
