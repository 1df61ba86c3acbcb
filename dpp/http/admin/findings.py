"""Findings: look at them, and resolve one. Every resolution says who decided it, and why."""

from collections.abc import Mapping
from typing import Final, assert_never
from uuid import UUID

from quart import Quart

from dpp import money
from dpp.findings import (
    FindingUnknown,
    ResolutionRefused,
    Resolved,
    ResolvedAlready,
    ResolveOutcome,
)
from dpp.http.admin.desk import Desk, Outcome, answers, insist, read_body, told
from dpp.http.admin.tenants import record
from dpp.http.admin.views import Listing, finding_view, resolved_view
from dpp.http.admin.wire import ResolveBody
from dpp.http.problems import Problem, invalid
from dpp.money import show
from dpp.pricing import InputError
from dpp.resolutions import (
    Accept,
    CostTooHigh,
    Refold,
    Remedy,
    Resolving,
    RunEnded,
    Settle,
    Unfit,
    Void,
)

NO_FINDING: Final = Problem("not-found", "there is no such finding")
COST: Final = "/cost_usd"


async def list_(desk: Desk) -> Outcome:
    """GET /admin/v1/findings: those that are open, oldest first."""
    return told(200, Listing([finding_view(one) for one in await desk.store.list_findings()]))


async def show_(desk: Desk, finding_id: str) -> Outcome:
    """GET /admin/v1/findings/{finding_id}: open or resolved."""
    finding = await desk.store.get_finding(UUID(finding_id))
    return NO_FINDING if finding is None else told(200, finding_view(finding))


async def resolve(desk: Desk, finding_id: str) -> Outcome:
    """POST /admin/v1/findings/{finding_id}:resolve; the same again is answered the same."""
    body = await read_body(ResolveBody)
    if isinstance(body, Problem):
        return body
    remedy = remedy_of(body)
    if isinstance(remedy, InputError):
        return invalid([remedy])
    asked = Resolving(
        finding_id=UUID(finding_id), remedy=remedy, operator=body.operator, reason=body.reason
    )
    outcome = await insist(lambda: desk.store.resolve_finding(asked))
    if isinstance(outcome, Resolved):
        finding = outcome.finding
        if not outcome.again:
            record(
                "finding resolved",
                finding.tenant_id or "",
                body,
                finding_id=finding_id,
                invariant=finding.invariant,
                subject=finding.subject,
                how=body.how,
                cost_usd=body.cost_usd,
            )
        return told(200, resolved_view(finding, frozen=outcome.frozen))
    return refusal(outcome)


def remedy_of(body: ResolveBody) -> Remedy | InputError:
    """Return what is asked for; a cost belongs to a settle, and to nothing else."""
    cost = None if body.cost_usd is None else money.parse(body.cost_usd)
    if body.how == "settle":
        if cost is None:
            return InputError(COST, "is missing: what does the run cost?")
        return Settle(cost)
    if cost is not None:
        return InputError(COST, "goes with settle alone")
    others: Mapping[str, Remedy] = {"void": Void(), "refold": Refold(), "accept": Accept()}
    return others[body.how]


def refusal(outcome: ResolveOutcome) -> Problem:
    """Say why a finding was not resolved."""
    match outcome:
        case FindingUnknown():
            return NO_FINDING
        case ResolvedAlready(finding):
            how = (finding.resolution or {}).get("how")
            return Problem("finding-resolved", f"it was resolved before, with --{how}")
        case ResolutionRefused(detail):
            return Problem("resolution-refused", detail)
        case RunEnded(status, cost):
            members = {"run_status": status.value, "actual_usd": show(cost)}
            detail = f"the run is {status} at ${show(cost)}, and stays so: accept the finding"
            return Problem("run-ended", detail, members)
        case CostTooHigh(reserve):
            return invalid([InputError(COST, f"must be at most {show(reserve)}, its reserve")])
        case Unfit(detail):
            return Problem("resolution-unfit", detail)
        case Resolved():
            raise AssertionError(outcome)
    assert_never(outcome)


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    one = f"{root}/findings/<finding_id>"
    app.get(f"{root}/findings", endpoint="list_findings")(answers(list_, desk))
    app.get(one, endpoint="show_finding")(answers(show_, desk))
    app.post(f"{one}:resolve", endpoint="resolve_finding")(answers(resolve, desk))
