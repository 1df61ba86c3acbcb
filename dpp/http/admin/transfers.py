"""Money into and out of a tenant's budget, once per reference."""

from typing import assert_never

from quart import Quart

from dpp import money
from dpp.http.admin.desk import NO_TENANT, Desk, Outcome, answers, insist, read_body, told
from dpp.http.admin.tenants import record
from dpp.http.admin.views import BookedView
from dpp.http.admin.wire import TransferBody
from dpp.http.problems import Problem
from dpp.http.views import budget_view
from dpp.ledger import Kind, Overdrawn, Posted, Posting, ReferenceReused, TenantUnknown
from dpp.money import show


async def deposit(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/deposits."""
    return await _post(desk, tenant, Kind.DEPOSIT)


async def withdraw(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/withdrawals."""
    return await _post(desk, tenant, Kind.WITHDRAW)


async def _post(desk: Desk, tenant: str, kind: Kind) -> Outcome:
    body = await read_body(TransferBody)
    if isinstance(body, Problem):
        return body
    posting = Posting(
        tenant_id=tenant,
        kind=kind,
        amount=money.parse(body.amount_usd),
        reference=body.reference,
        operator=body.operator,
        reason=body.reason,
    )
    outcome = await insist(lambda: desk.store.post_transfer(posting))
    match outcome:
        case Posted(budget):
            record(kind.value, tenant, body, amount_usd=body.amount_usd, reference=body.reference)
            return told(200, BookedView(tenant, body.reference, budget_view(budget)))
        case ReferenceReused():
            detail = f"{body.reference} names a transfer of another kind or amount"
            return Problem("reference-reused", detail)
        case Overdrawn(available):
            has, needs = show(available), show(posting.amount)
            return Problem(
                "budget-exceeded",
                f"${needs} is more than the ${has} that are available",
                {"available_usd": has, "required_usd": needs},
            )
        case TenantUnknown():
            return NO_TENANT
    assert_never(outcome)


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    one = f"{root}/tenants/<tenant>"
    app.post(f"{one}/deposits")(answers(deposit, desk))
    app.post(f"{one}/withdrawals")(answers(withdraw, desk))
