"""Money into and out of a tenant's budget, once per reference.

Deposits and withdrawals cross the border of DPP; a refund gives back what a run cost; an adjust is
an operator's correction of either sign.
"""

from typing import Final, assert_never
from uuid import UUID

from quart import Quart

from dpp import money
from dpp.http.admin.desk import NO_TENANT, Desk, Outcome, answers, insist, read_body, told
from dpp.http.admin.tenants import record
from dpp.http.admin.views import BookedView, OwnedRunView
from dpp.http.admin.wire import AdjustBody, RefundBody, TransferBody
from dpp.http.problems import Problem
from dpp.http.views.books import budget_view
from dpp.ledger import (
    Kind,
    NoSuchRun,
    NotEnded,
    Overdrawn,
    Posted,
    Posting,
    PostingRefusal,
    ReferenceReused,
    RefundTooHigh,
    TenantUnknown,
)
from dpp.money import Micros, show

NO_RUN: Final = Problem("not-found", "there is no such run")


async def deposit(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/deposits."""
    return await _post(desk, tenant, Kind.DEPOSIT, TransferBody)


async def withdraw(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/withdrawals."""
    return await _post(desk, tenant, Kind.WITHDRAW, TransferBody)


async def refund(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/refunds."""
    return await _post(desk, tenant, Kind.REFUND, RefundBody)


async def adjust(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/adjusts."""
    return await _post(desk, tenant, Kind.ADJUST, AdjustBody)


async def find_run(desk: Desk, run_id: str) -> Outcome:
    """GET /admin/v1/runs/{run_id}: whose it is, for who would refund it."""
    tenant_id = await desk.store.tenant_of_run(UUID(run_id))
    return NO_RUN if tenant_id is None else told(200, OwnedRunView(run_id, tenant_id))


async def _post(desk: Desk, tenant: str, kind: Kind, form: type[TransferBody]) -> Outcome:
    body = await read_body(form)
    if isinstance(body, Problem):
        return body
    posting = _posting(tenant, kind, body)
    outcome = await insist(lambda: desk.store.post_transfer(posting))
    match outcome:
        case Posted(budget):
            _record(tenant, kind, body)
            return told(200, BookedView(tenant, body.reference, budget_view(budget)))
        case TenantUnknown():
            return NO_TENANT
        case _:
            return _refused(posting, outcome)


def _posting(tenant: str, kind: Kind, body: TransferBody) -> Posting:
    return Posting(
        tenant_id=tenant,
        kind=kind,
        amount=money.parse_signed(body.amount_usd),  # only an adjust's form lets a sign through
        reference=body.reference,
        operator=body.operator,
        run_id=UUID(body.run_id) if isinstance(body, RefundBody) else None,
        reason=body.reason,
    )


def _record(tenant: str, kind: Kind, body: TransferBody) -> None:
    of = {"run_id": body.run_id} if isinstance(body, RefundBody) else {}
    booked = {"amount_usd": body.amount_usd, "reference": body.reference}
    record(kind.value, tenant, body, **booked, **of)


def _refused(posting: Posting, refusal: PostingRefusal) -> Problem:
    match refusal:
        case ReferenceReused():
            detail = f"{posting.reference} names a transfer of another kind, amount or run"
            return Problem("reference-reused", detail)
        case Overdrawn(available):
            return _overdrawn(posting.amount, available)
        case NoSuchRun():
            return Problem("not-found", "the tenant has no such run")
        case NotEnded():
            return Problem("run-not-finished", "until it ends, the run has cost nothing")
        case RefundTooHigh():
            return _too_high(refusal)
    assert_never(refusal)


def _overdrawn(amount: Micros, available: Micros) -> Problem:
    has, needs = show(available), show(abs(amount))
    return Problem(
        "budget-exceeded",
        f"${needs} is more than the ${has} that are available",
        {"available_usd": has, "required_usd": needs},
    )


def _too_high(refusal: RefundTooHigh) -> Problem:
    cost, refunded, left = show(refusal.cost), show(refusal.refunded), show(refusal.left)
    return Problem(
        "refund-too-high",
        f"it cost ${cost}, of which ${refunded} is refunded: ${left} is left",
        {"cost_usd": cost, "refunded_usd": refunded, "left_usd": left},
    )


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    one = f"{root}/tenants/<tenant>"
    app.post(f"{one}/deposits")(answers(deposit, desk))
    app.post(f"{one}/withdrawals")(answers(withdraw, desk))
    app.post(f"{one}/refunds")(answers(refund, desk))
    app.post(f"{one}/adjusts")(answers(adjust, desk))
    app.get(f"{root}/runs/<run_id>")(answers(find_run, desk))
