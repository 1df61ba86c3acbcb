"""A tenant's API keys: make, list, revoke. A key is shown once, in the answer that makes it."""

from typing import Final

from quart import Quart

from dpp import keys
from dpp.http.admin.desk import NO_TENANT, Desk, Outcome, answers, insist, read_body, told
from dpp.http.admin.tenants import record
from dpp.http.admin.views import Listing, key_view, with_key
from dpp.http.admin.wire import Change, NewKeyBody
from dpp.http.problems import Problem
from dpp.keys import NewKey

KEY_ID: Final = rf"[0-9A-Za-z]{{{keys.KEY_ID_CHARS}}}"
NO_KEY: Final = Problem("not-found", "the tenant has no such key")


async def create(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/keys."""
    body = await read_body(NewKeyBody)
    if isinstance(body, Problem):
        return body
    minted = keys.mint(desk.random_bytes(keys.RANDOM_BYTES))
    new = NewKey(
        key_id=minted.key_id,
        tenant_id=tenant,
        secret_sha256=minted.secret_sha256,
        scopes=body.scopes,
        lives_s=body.lives_s,
    )
    key = await insist(lambda: desk.store.create_key(new, operator=body.operator))
    if key is None:
        return NO_TENANT
    record("key created", tenant, body, key_id=key.key_id, scopes=list(key.scopes))
    return told(201, with_key(key_view(key), key.key_id, minted.text))


async def list_(desk: Desk, tenant: str) -> Outcome:
    """GET /admin/v1/tenants/{tenant}/keys: all of them, oldest first."""
    if await desk.store.get_tenant(tenant) is None:
        return NO_TENANT
    return told(200, Listing([key_view(key) for key in await desk.store.list_keys(tenant)]))


async def revoke(desk: Desk, tenant: str, key_id: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/keys/{key_id}:revoke; revoked twice is revoked."""
    body = await read_body(Change)
    if isinstance(body, Problem):
        return body
    if not await insist(lambda: desk.store.revoke_key(tenant, key_id, operator=body.operator)):
        return NO_KEY
    record("key revoked", tenant, body, key_id=key_id)
    return told(200, {"key_id": key_id, "revoked": True})


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    all_keys = f"{root}/tenants/<tenant>/keys"
    app.post(all_keys, endpoint="create_key")(answers(create, desk))
    app.get(all_keys, endpoint="list_keys")(answers(list_, desk))
    app.post(f"{all_keys}/<key_id>:revoke", endpoint="revoke_key")(answers(revoke, desk))
