"""Tenants: make one, look at them, change plan, suspend, resume."""

import re

from quart import Quart

from dpp import keys, money
from dpp.http import cursors
from dpp.http.admin.desk import (
    NO_TENANT,
    Desk,
    Outcome,
    answers,
    insist,
    read_body,
    read_list_query,
    refuse_plan,
    told,
)
from dpp.http.admin.views import Listing, tenant_view, with_key
from dpp.http.admin.wire import TENANT, Change, NewTenantBody, PlanBody
from dpp.http.problems import Problem, invalid
from dpp.keys import SCOPES, NewKey
from dpp.logs import get_logger
from dpp.money import ZERO
from dpp.pricing import InputError
from dpp.tenants import NewTenant, TenantExists

FIRST_DEPOSIT = "first-deposit"  # its reference

log = get_logger(__name__)


async def create(desk: Desk) -> Outcome:
    """POST /admin/v1/tenants."""
    body = await read_body(NewTenantBody)
    if isinstance(body, Problem):
        return body
    refused = refuse_plan(desk, body.plan)
    if refused is not None:
        return refused
    minted = keys.mint(desk.random_bytes(keys.RANDOM_BYTES))
    new = NewTenant(
        tenant_id=body.tenant_id,
        plan=body.plan,
        key=NewKey(
            key_id=minted.key_id,
            tenant_id=body.tenant_id,
            secret_sha256=minted.secret_sha256,
            scopes=SCOPES,
        ),
        deposit=ZERO if body.deposit_usd is None else money.parse(body.deposit_usd),
        reference=FIRST_DEPOSIT,
        operator=body.operator,
    )
    tenant = await insist(lambda: desk.store.create_tenant(new))
    if isinstance(tenant, TenantExists):
        return Problem("tenant-exists", f"tenant {body.tenant_id} exists; nothing was changed")
    record("tenant created", body.tenant_id, body, plan=body.plan, deposit_usd=body.deposit_usd)
    return told(201, with_key(tenant_view(tenant), minted.key_id, minted.text))


async def list_(desk: Desk) -> Outcome:
    """GET /admin/v1/tenants."""
    query = read_list_query()
    if isinstance(query, Problem):
        return query
    limit, cursor = query["limit"], query["cursor"]
    assert isinstance(limit, int)
    after = "" if cursor is None else cursors.read("tenants", "", str(cursor))
    if after is None or (after and re.fullmatch(TENANT, after) is None):
        return invalid([InputError("/query/cursor", "is not a cursor of this list")])
    tenants = await desk.store.list_tenants(after=after, limit=limit + 1)
    page, more = tenants[:limit], len(tenants) > limit
    next_cursor = cursors.make("tenants", "", page[-1].tenant_id) if more else None
    return told(200, Listing([tenant_view(tenant) for tenant in page], next_cursor))


async def show(desk: Desk, tenant: str) -> Outcome:
    """GET /admin/v1/tenants/{tenant}."""
    found = await desk.store.get_tenant(tenant)
    return NO_TENANT if found is None else told(200, tenant_view(found))


async def set_plan(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/plan."""
    body = await read_body(PlanBody)
    if isinstance(body, Problem):
        return body
    refused = refuse_plan(desk, body.plan)
    if refused is not None:
        return refused
    changed = await insist(lambda: desk.store.set_plan(tenant, body.plan, operator=body.operator))
    if changed is None:
        return NO_TENANT
    record("plan changed", tenant, body, plan=body.plan)
    return told(200, tenant_view(changed))


async def suspend(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}:suspend."""
    return await _set_suspended(desk, tenant, suspended=True)


async def resume(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}:resume."""
    return await _set_suspended(desk, tenant, suspended=False)


async def _set_suspended(desk: Desk, tenant: str, *, suspended: bool) -> Outcome:
    body = await read_body(Change)
    if isinstance(body, Problem):
        return body
    changed = await insist(
        lambda: desk.store.set_suspended(tenant, suspended=suspended, operator=body.operator)
    )
    if changed is None:
        return NO_TENANT
    record("tenant suspended" if suspended else "tenant resumed", tenant, body)
    return told(200, tenant_view(changed))


def record(event: str, tenant_id: str, body: Change, **more: object) -> None:
    """Leave a line of who did what to whom, and why."""
    log.info(event, tenant_id=tenant_id, operator=body.operator, reason=body.reason, **more)


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    tenants = f"{root}/tenants"
    one = f"{tenants}/<tenant>"
    app.post(tenants)(answers(create, desk))
    app.get(tenants)(answers(list_, desk))
    app.get(one)(answers(show, desk))
    app.post(f"{one}/plan")(answers(set_plan, desk))
    app.post(f"{one}:suspend")(answers(suspend, desk))
    app.post(f"{one}:resume")(answers(resume, desk))
