"""A tenant's API keys: make, list, rotate, revoke. A key is shown once, where it is made.

Operators are bound by no key's rights: they make any, and rotate any that has not ended.
"""

from typing import Final

from quart import Quart, request

from dpp import keys
from dpp.http.admin.desk import NO_TENANT, Desk, Outcome, answers, insist, read_body, told
from dpp.http.admin.tenants import record
from dpp.http.admin.views import Listing, key_view, with_key
from dpp.http.admin.wire import Change, NewKeyBody, RotateKeyBody
from dpp.http.keys import LIST_QUERY, both_ends, new_key, read_page, refusal
from dpp.http.problems import Problem, invalid
from dpp.http.requests import read_values
from dpp.keyring import KeyGone, Rotated
from dpp.keys import Key, Rotation

NO_KEY: Final = Problem("not-found", "the tenant has no such key")


async def create(desk: Desk, tenant: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/keys."""
    body = await read_body(NewKeyBody)
    if isinstance(body, Problem):
        return body
    errors = both_ends(body)
    if errors:
        return invalid(errors)
    minted = keys.mint(desk.random_bytes(keys.RANDOM_BYTES))
    new = new_key(body, tenant, minted, caller=None)
    key = await insist(lambda: desk.store.create_key(new, operator=body.operator))
    if key is None:
        return NO_TENANT
    if not isinstance(key, Key):
        return refusal(key)
    told_of = {"scopes": list(key.scopes), "spend_limit_usd": body.spend_limit_usd}
    record("key created", tenant, body, key_id=key.key_id, **told_of)
    return told(201, with_key(key_view(key), key.key_id, minted.text))


async def list_(desk: Desk, tenant: str) -> Outcome:
    """GET /admin/v1/tenants/{tenant}/keys: newest first; with `ended=true` ended ones too."""
    query = read_values(request.query_string, LIST_QUERY)
    if isinstance(query, Problem):
        return query
    if await desk.store.get_tenant(tenant) is None:
        return NO_TENANT
    page = await read_page(desk.store.list_keys, tenant, query)
    if isinstance(page, Problem):
        return page
    found, cursor = page
    return told(200, Listing([key_view(key) for key in found], cursor))


async def rotate(desk: Desk, tenant: str, key_id: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/keys/{key_id}:rotate."""
    body = await read_body(RotateKeyBody)
    if isinstance(body, Problem):
        return body
    minted = keys.mint(desk.random_bytes(keys.RANDOM_BYTES))
    asked = Rotation(
        key_id=key_id,
        tenant_id=tenant,
        new_key_id=minted.key_id,
        secret_sha256=minted.secret_sha256,
        overlap_s=body.overlap_s,
    )
    rotated = await insist(lambda: desk.store.rotate_key(asked))
    if isinstance(rotated, KeyGone):
        return NO_KEY
    if not isinstance(rotated, Rotated):
        return refusal(rotated)
    desk.key_ended(key_id)
    record("key rotated", tenant, body, key_id=rotated.new.key_id, replaces=key_id)
    made = with_key(key_view(rotated.new), rotated.new.key_id, minted.text)
    return told(201, {**made, "replaces": key_view(rotated.old)})


async def revoke(desk: Desk, tenant: str, key_id: str) -> Outcome:
    """POST /admin/v1/tenants/{tenant}/keys/{key_id}:revoke; revoked twice is revoked."""
    body = await read_body(Change)
    if isinstance(body, Problem):
        return body
    if not await insist(lambda: desk.store.revoke_key(tenant, key_id, operator=body.operator)):
        return NO_KEY
    desk.key_ended(key_id)
    record("key revoked", tenant, body, key_id=key_id)
    return told(200, {"key_id": key_id, "revoked": True})


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    all_keys = f"{root}/tenants/<tenant>/keys"
    app.post(all_keys, endpoint="create_key")(answers(create, desk))
    app.get(all_keys, endpoint="list_keys")(answers(list_, desk))
    app.post(f"{all_keys}/<key_id>:rotate", endpoint="rotate_key")(answers(rotate, desk))
    app.post(f"{all_keys}/<key_id>:revoke", endpoint="revoke_key")(answers(revoke, desk))
