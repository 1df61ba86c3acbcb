"""Runs, as they go out."""

from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec
from attrs import frozen

from dpp.http.views.encoding import USD, Time
from dpp.money import ZERO, Micros, show
from dpp.pricing import policy_text
from dpp.runs import Failure, Payer, Run, Status, payer

StatusText: TypeAlias = Literal[
    "QUEUED", "PROCESSING", "COMPLETED", "FAILED", "CANCELED", "EXPIRED"
]
# The values of `ErrorCode`, spelled out so that the document shows them where they stand.
ErrorCodeText: TypeAlias = Literal[
    "pack_refused",
    "pack_error",
    "timebox",
    "cost_ceiling",
    "result_too_large",
    "lost_lease",
    "store_unavailable",
    "infrastructure",
    "resolved_by_operator",
]


# Where else to look, by name.
Links: TypeAlias = dict[Literal["self", "cancel", "result", "events", "receipt"], str]


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

    code: ErrorCodeText
    detail: str
    payer: Payer


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


def run_view(run: Run) -> RunView:
    """Return a run as the API shows it."""
    run_id = str(run.run_id)
    path = f"/v1/runs/{run_id}"
    failure, digest = run.failure, run.result_sha256
    return RunView(
        run_id=run_id,
        status=run.status.value,
        pack_type=run.pack_type,
        idempotency_key=run.idempotency_key,
        attempt=run.attempt,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        expires_at=run.expires_at,
        result_expires_at=run.result_expires_at,
        cost=_cost(run),
        progress=_progress(run),
        metadata=cast("dict[str, str]", msgspec.Raw(run.metadata or b"{}")),
        result=None if run.result is None else msgspec.Raw(run.result),
        result_sha256=None if digest is None else digest.hex(),
        error=None if failure is None else error_view(failure, run.actual_cost or ZERO),
        trace_id=run.trace_id,
        links={
            "self": path,
            "cancel": f"{path}:cancel",
            "result": f"{path}/result",
            "events": f"{path}/events",
            "receipt": f"{path}/receipt",
        },
    )


def _progress(run: Run) -> ProgressView | None:
    """Return the last that is known; of a run that completed it is all, whatever its pack said."""
    note = "" if run.progress is None else run.progress.note
    if run.status is Status.COMPLETED:
        return ProgressView(1.0, note)
    return None if run.progress is None else ProgressView(run.progress.fraction, note)


def _cost(run: Run) -> CostView:
    return CostView(
        show(run.max_cost),
        show(run.held),
        None if run.actual_cost is None else show(run.actual_cost),
        show(run.minimum_fee),
        USD,
        _policy(run.policy),
    )


def error_view(failure: Failure, cost: Micros) -> ErrorView:
    """Return why a run failed, as the API shows it."""
    return ErrorView(failure.code.value, failure.detail, payer(failure.code, cost))


_policy: Final = lru_cache(maxsize=256)(policy_text)  # a few rules, said with every run
