"""Admissions that say no, as problems."""

from datetime import datetime
from typing import assert_never

from dpp.admission import (
    ExistsWithDifferentRequest,
    InsufficientBudget,
    KeyDead,
    MaxCostTooHigh,
    MaxCostTooLow,
    NoSubmits,
    PackNotAllowed,
    PlanUnknown,
    Pruned,
    QueueFull,
    RateLimited,
    Refusal,
    TenantFrozen,
    TenantSuspended,
)
from dpp.http.limits import SUBMIT, window_headers
from dpp.http.problems import Problem, invalid, over_quota, unauthorized, unavailable
from dpp.money import Micros, show
from dpp.pricing import InputsInvalid, PackUnknown
from dpp.spending import SpendLimited

QUEUE_RETRY_S = 5  # an estimate: how soon a place in the queue is free nobody knows

DROPPED = unavailable(
    "the submission was not answered; send it again with the same key to learn what became of it"
)


def problem_of(refusal: Refusal) -> Problem:  # noqa: C901, PLR0911, PLR0912 - a case each
    """Return what the client is told."""
    match refusal:
        case ExistsWithDifferentRequest():
            detail = "a run was submitted under this key with another pack, inputs or options"
            return Problem("idempotency-key-reused", detail)
        case Pruned(run_id):
            named = {"run_id": str(run_id)}
            return Problem("run-expired", "the key named this run, which is past retention", named)
        case KeyDead():
            return unauthorized()
        case TenantSuspended():
            return Problem(
                "tenant-suspended",
                "new submissions are refused until an operator resumes it; accepted runs go on",
            )
        case TenantFrozen():
            return Problem("tenant-frozen", "its books are being looked at; accepted runs go on")
        case NoSubmits(retry_after_s):
            return unavailable(
                "maintenance: new runs are not taken for now; accepted runs go on", retry_after_s
            )
        case PlanUnknown(plan):
            return unavailable(f"this node does not know the plan {plan!r}: the operator must act")
        case PackUnknown(allowed):
            return Problem("pack-unknown", _packs(allowed), {"allowed": list(allowed)})
        case PackNotAllowed(allowed):
            return Problem("pack-not-allowed", _packs(allowed), {"allowed": list(allowed)})
        case InputsInvalid(errors):
            return invalid(errors)
        case MaxCostTooLow(required):
            least = show(required)
            return Problem(
                "max-cost-too-low", f"this run needs at least ${least}", {"required_usd": least}
            )
        case MaxCostTooHigh(limit):
            most = show(limit)
            return Problem(
                "max-cost-too-high", f"the plan allows at most ${most} a run", {"limit_usd": most}
            )
        case RateLimited(window):
            detail = f"{window.limit} submissions a minute; the next in {window.reset_s} s"
            return over_quota(SUBMIT, detail, window.reset_s, window_headers(SUBMIT, window))
        case QueueFull(limit):
            detail = f"{limit} runs are queued, which is the plan's limit"
            return over_quota("queued_runs", detail, QUEUE_RETRY_S)
        case SpendLimited(limit, cap, resets_at):
            return spend_limited(limit, cap, resets_at)
        case InsufficientBudget(available, required):
            has, needs = show(available), show(required)
            return Problem(
                "budget-exceeded",
                f"the run reserves ${needs}, and ${has} is available",
                {"available_usd": has, "required_usd": needs},
            )
    assert_never(refusal)


def spend_limited(limit: str, cap: Micros, resets_at: datetime | None) -> Problem:
    """Return the problem of a cap on spending; the key's own counts anew never."""
    whose = "its key may spend" if limit == "key" else f"the plan allows to spend a {limit}"
    detail = f"with this run it would be more than the ${show(cap)} that {whose}"
    resets = None if resets_at is None else resets_at.isoformat().replace("+00:00", "Z")
    members = {"limit": limit, "limit_usd": show(cap), "resets_at": resets}
    return Problem("spend-limit-exceeded", detail, members)


def _packs(allowed: tuple[str, ...]) -> str:
    return f"this tenant may run {', '.join(allowed) or 'none'}"
