"""A tenant's own API keys: list, make, rotate, revoke. The secret is in one answer, once.

What a key may hand on is decided in the store's transaction, see `dpp.keyring`. Making and rotating
spend nothing and are not idempotent: an answer that was lost leaves a key that nobody holds, which
the list shows and a DELETE ends. A rotation may be asked again while nobody has used its key.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeVar

from dpp import keys, moments, money
from dpp.http import cursors
from dpp.http.answers import NO_STORE, Answer
from dpp.http.auth import Principal
from dpp.http.decoder import NotJson, decode_object
from dpp.http.problems import Problem, invalid, over_quota, unauthorized
from dpp.http.requests import Parameters, Request, Values, Whole, Words, read_body, read_query
from dpp.http.services import Services
from dpp.http.views.encoding import encode
from dpp.http.views.keys import KeyList, key_view, made_key_view, rotated_key_view
from dpp.http.wire import NewKeyRequest, RotateKeyRequest, read
from dpp.keyring import (
    CallerDead,
    Exceeds,
    KeyGone,
    KeyRefusal,
    Rotated,
    TooFast,
    TooMany,
    TurnRefusal,
    Wider,
)
from dpp.keys import Key, KeyPlace, MintedKey, NewKey, Rotation, by_key
from dpp.logs import get_logger
from dpp.pricing import InputError

Body = TypeVar("Body")

BODY_MAX: Final = 1 << 14  # five scopes, a time and an amount
KEY_ID: Final = rf"[0-9A-Za-z]{{{keys.KEY_ID_CHARS}}}"
LIST_QUERY: Final[Parameters] = {
    "limit": Whole(1, 200, default=50),
    "cursor": Words(cursors.CHARS_MAX),
    "ended": Words(5, "^(true|false)$"),
}
NO_KEY: Final = Problem("not-found", "there is no such key")
AGAIN_S: Final = 3600  # an estimate: when the first of a day's keys is a day old nobody counted
POLICY: Final = "keys"
_KEY_ID: Final = re.compile(KEY_ID)
_PLACE: Final = re.compile(rf"([0-9]{{1,17}})-({KEY_ID})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

log = get_logger(__name__)


class KeyAsked(Protocol):
    """What a body says of a key, a tenant's or an operator's."""

    @property
    def scopes(self) -> tuple[str, ...]: ...

    @property
    def expires_at(self) -> str | None: ...

    @property
    def expires_in_s(self) -> int | None: ...

    @property
    def spend_limit_usd(self) -> str | None: ...


async def list_keys(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/keys."""
    query = read_query(request, LIST_QUERY)
    if isinstance(query, Problem):
        return query
    page = await read_page(services.keyring.list_keys, request.tenant_id, query)
    if isinstance(page, Problem):
        return page
    found, cursor = page
    return Answer(200, encode(KeyList([key_view(key) for key in found], cursor)), (NO_STORE,))


async def create_key(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/keys: at most what the key that asks may do itself."""
    body = await _read(request, NewKeyRequest)
    if isinstance(body, Problem):
        return body
    errors = both_ends(body)
    if errors:
        return invalid(errors)
    principal, minted = _principal(request), keys.mint(services.random_bytes(keys.RANDOM_BYTES))
    asked = new_key(body, principal.tenant_id, minted, caller=principal.key_id)
    made = await services.keyring.create_key(asked, operator=by_key(principal.key_id))
    if not isinstance(made, Key):
        assert made is not None, "a key's tenant is there"
        return refusal(made)
    log.info(
        "key created",
        tenant_id=made.tenant_id,
        key_id=made.key_id,
        by=principal.key_id,
        scopes=[*made.scopes],
    )
    return Answer(201, encode(made_key_view(made, minted.text)), (NO_STORE,))


async def rotate_key(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/keys/{key_id}:rotate: this key, or one that may do no more."""
    body = await _read(request, RotateKeyRequest)
    if isinstance(body, Problem):
        return body
    key_id = parse_key_id(request.params["key_id"])
    if key_id is None:
        return NO_KEY
    principal, minted = _principal(request), keys.mint(services.random_bytes(keys.RANDOM_BYTES))
    asked = Rotation(
        key_id=key_id,
        tenant_id=principal.tenant_id,
        new_key_id=minted.key_id,
        secret_sha256=minted.secret_sha256,
        overlap_s=body.overlap_s,
        caller=principal.key_id,
    )
    rotated = await services.keyring.rotate_key(asked)
    if not isinstance(rotated, Rotated):
        return refusal(rotated)
    services.key_ended(key_id)
    log.info(
        "key rotated",
        tenant_id=principal.tenant_id,
        key_id=rotated.new.key_id,
        replaces=key_id,
        by=principal.key_id,
    )
    return Answer(201, encode(rotated_key_view(rotated, minted.text)), (NO_STORE,))


async def revoke_key(services: Services, request: Request) -> Answer | Problem:
    """DELETE /v1/keys/{key_id}: any of the tenant's, itself too; revoked twice is revoked."""
    key_id, principal = parse_key_id(request.params["key_id"]), _principal(request)
    if key_id is None or not await services.keyring.revoke_key(
        principal.tenant_id, key_id, operator=by_key(principal.key_id)
    ):
        return NO_KEY
    services.key_ended(key_id)
    log.info("key revoked", tenant_id=principal.tenant_id, key_id=key_id, by=principal.key_id)
    return Answer(204, b"", (NO_STORE,))


async def read_page(
    ask: Callable[..., Awaitable[list[Key]]], tenant_id: str, query: Values
) -> tuple[list[Key], str | None] | Problem:
    """Return a page of a tenant's keys and the cursor behind it, by `LIST_QUERY`."""
    before = _place(tenant_id, query["cursor"])
    if isinstance(before, Problem):
        return before
    limit = query["limit"]
    assert isinstance(limit, int)
    found = await ask(tenant_id, before=before, limit=limit + 1, ended=query["ended"] == "true")
    page, more = found[:limit], len(found) > limit
    return page, _cursor(page[-1]) if more else None


def both_ends(body: KeyAsked) -> list[InputError]:
    """Say that a key has two ends."""
    if body.expires_at is None or body.expires_in_s is None:
        return []
    return [InputError("/expires_in_s", "stands beside expires_at: send one of them")]


def new_key(body: KeyAsked, tenant_id: str, minted: MintedKey, *, caller: str | None) -> NewKey:
    """Return the key that a body asks for; `caller` None = for an operator."""
    return NewKey(
        key_id=minted.key_id,
        tenant_id=tenant_id,
        secret_sha256=minted.secret_sha256,
        scopes=body.scopes,
        lives_s=body.expires_in_s,
        expires_at=None if body.expires_at is None else moments.parse(body.expires_at),
        spend_limit=None if body.spend_limit_usd is None else money.parse(body.spend_limit_usd),
        caller=caller,
    )


def refusal(refused: KeyRefusal | TurnRefusal) -> Problem:
    """Return the problem that says why there is no new key."""
    match refused:
        case CallerDead():
            return unauthorized()
        case KeyGone():
            return NO_KEY
        case Exceeds(errors):
            return invalid(errors)
        case Wider(what):
            return Problem("forbidden", f"the key to be rotated has more than this one: {what}")
        case TooMany(limit):
            detail = f"at most {limit} keys that are good; revoke one first"
            return Problem("key-limit-reached", detail, {"keys_max": limit})
        case TooFast(limit):
            detail = f"keys may make {limit} keys in a day; try again later"
            return over_quota(POLICY, detail, AGAIN_S)


def parse_key_id(text: str) -> str | None:
    """Return the id; None = no key was ever named so."""
    return text if _KEY_ID.fullmatch(text) else None


async def _read(request: Request, kind: type[Body]) -> Body | Problem:
    """Return the body as a `kind`, or what is wrong with it."""
    body = await read_body(request, BODY_MAX)
    if isinstance(body, Problem):
        return body
    decoded = decode_object(body)
    if isinstance(decoded, NotJson):
        return Problem("malformed-json", decoded.detail)
    structured = read(decoded, kind)
    return invalid(structured) if isinstance(structured, list) else structured


def _principal(request: Request) -> Principal:
    assert request.principal is not None
    return request.principal


def _cursor(key: Key) -> str:
    micros = (key.created_at - _EPOCH) // _MICROSECOND
    return cursors.make("keys", key.tenant_id, f"{micros}-{key.key_id}")


def _place(tenant_id: str, cursor: object) -> KeyPlace | Problem | None:
    if not isinstance(cursor, str):
        return None
    found = _PLACE.fullmatch(cursors.read("keys", tenant_id, cursor) or "")
    if found is None:
        return invalid([InputError("/query/cursor", "is not a cursor of this list")])
    return KeyPlace(_EPOCH + int(found.group(1)) * _MICROSECOND, found.group(2))
