"""What goes out: the objects of the API as attrs types, made from the core's values.

Money becomes decimal strings here and nowhere else. msgspec writes these types, and makes their
schemas for the OpenAPI document. Members of later releases are null until then. Without slots,
because msgspec writes a slotted class slower and in the order of the alphabet.
"""

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from attrs import frozen
from msgspec import Meta

from dpp.ledger import Budget, Entry
from dpp.money import ZERO, Micros, show
from dpp.pricing import policy_text
from dpp.runs import Failure, Run, Status, payer

USD: Final = "USD"
SCHEMAS: Final = "#/components/schemas/"
StatusText: TypeAlias = Literal[
    "QUEUED", "PROCESSING", "COMPLETED", "FAILED", "CANCELED", "EXPIRED"
]

Time = Annotated[datetime, Meta(tz=True)]
# Where else to look, by name; null = not served by this release.
Links: TypeAlias = dict[Literal["self", "cancel", "result", "events", "receipt"], str | None]


@frozen(slots=False)
class CostView:
    """The money of a run; `actual_usd` is null until it ends."""

    max_usd: str
    held_usd: str
    actual_usd: str | None
    minimum_fee_usd: str
    currency: Literal["USD"]
    policy: str


@frozen(slots=False)
class ProgressView:
    """How far the pack says it is: 0 to 1, and a note."""

    fraction: float
    note: str


@frozen(slots=False)
class ErrorView:
    """Why a run failed, and who pays for it."""

    code: str
    detail: str
    payer: str


@frozen(kw_only=True, slots=False)
class RunView:
    """A run."""

    run_id: str
    status: StatusText
    pack_type: str
    idempotency_key: str
    attempt: int
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    expires_at: Time
    result_expires_at: Time | None
    cost: CostView
    progress: ProgressView | None
    metadata: dict[str, str]
    result: Any
    result_sha256: str | None
    error: ErrorView | None
    trace_id: str
    links: Links


@frozen(slots=False)
class RunList:
    """A page of runs, newest first."""

    items: list[RunView]
    next_cursor: str | None


@frozen(slots=False)
class ProblemView:
    """A problem (RFC 9457); some types carry members of their own."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


@frozen(slots=False)
class BatchRun:
    """The answer to one submission that names a run."""

    status: Literal[201]
    run: RunView
    replayed: bool


@frozen(slots=False)
class BatchRefusal:
    """The answer to one submission that was refused."""

    status: int
    problem: dict[str, Any]


# msgspec makes no schema of a union of classes, so it is written out.
BatchItem = Annotated[
    object,
    Meta(
        extra_json_schema={
            "oneOf": [{"$ref": SCHEMAS + name} for name in ("BatchRun", "BatchRefusal")]
        }
    ),
]


@frozen(slots=False)
class BatchAnswer:
    """The answers to a batch, in the order of its submissions."""

    items: list[BatchItem]


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


@frozen(slots=False)
class ServiceView:
    """What answers here."""

    service: str
    version: str
    status: str


@frozen(slots=False)
class HealthView:
    """The process lives."""

    status: str
    version: str


@frozen(slots=False)
class ReadyView:
    """Whether requests should come here, and each dependency in use."""

    status: Literal["ready", "degraded", "not_ready"]
    services: dict[str, str]


def run_view(run: Run) -> RunView:
    """Return a run as the API shows it."""
    path = f"/v1/runs/{run.run_id}"
    failure, digest = run.failure, run.result_sha256
    return RunView(
        run_id=str(run.run_id),
        status=run.status.value,
        pack_type=run.pack_type,
        idempotency_key=run.idempotency_key,
        attempt=run.attempt,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        expires_at=run.expires_at,
        result_expires_at=None,
        cost=_cost(run),
        progress=_progress(run),
        metadata={},
        result=None if run.result is None else msgspec.Raw(run.result),
        result_sha256=None if digest is None else digest.hex(),
        error=None if failure is None else _error(failure, run.actual_cost or ZERO),
        trace_id=run.trace_id,
        links={
            "self": path,
            "cancel": f"{path}:cancel",
            "result": None,
            "events": None,
            "receipt": None,
        },
    )


def _progress(run: Run) -> ProgressView | None:
    """Return the last that is known; of a run that completed it is all, whatever its pack said."""
    note = "" if run.progress is None else run.progress.note
    if run.status is Status.COMPLETED:
        return ProgressView(1.0, note)
    return None if run.progress is None else ProgressView(run.progress.fraction, note)


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
        transfer_id=f"tr_{entry.seq}",
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


def encode(view: object) -> bytes:
    """Write a view as JSON."""
    return _ENCODER.encode(view)


def written(view: object) -> msgspec.Raw:
    """Write a part of a large answer, which then costs no more than copying it."""
    return msgspec.Raw(_ENCODER.encode(view))


def _cost(run: Run) -> CostView:
    return CostView(
        show(run.max_cost),
        show(run.held),
        None if run.actual_cost is None else show(run.actual_cost),
        show(run.minimum_fee),
        USD,
        _policy(run.policy),
    )


def _error(failure: Failure, cost: Micros) -> ErrorView:
    return ErrorView(failure.code.value, failure.detail, payer(failure.code, cost))


_policy: Final = lru_cache(maxsize=256)(policy_text)  # a few rules, said with every run

_ENCODER: Final = msgspec.json.Encoder()
