"""A tenant's webhooks: endpoints, their secrets, and what was delivered to them.

What a URL may be is judged here as far as the URL tells, and each time it is sent to by what its
name resolves to. Registering is not idempotent: an answer that was lost leaves an endpoint whose
secret nobody has, which the list shows; rotate it, or delete it.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from dpp import egress
from dpp.egress import Refused
from dpp.http import cursors
from dpp.http.answers import NO_STORE, Answer
from dpp.http.decoder import NotJson, decode_object
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Parameters, Request, Values, Whole, Words, read_body, read_query
from dpp.http.services import Services
from dpp.http.views.encoding import encode
from dpp.http.views.webhooks import (
    DeliveryList,
    WebhookList,
    delivery_view,
    webhook_secret_view,
    webhook_view,
)
from dpp.http.wire import NewWebhookRequest, WebhookChangeRequest, read
from dpp.logs import get_logger
from dpp.pricing import InputError
from dpp.webhooks import (
    ENDPOINTS_MAX,
    SECRET_BYTES,
    Delivery,
    NewWebhook,
    TooManyWebhooks,
    WebhookChange,
    WebhookDisabled,
    WebhookUnknown,
    wrong_events,
)

Body = TypeVar("Body")

BODY_MAX: Final = 1 << 14  # a URL of 2,048 characters, each of them escaped, and five events
LIST_QUERY: Final[Parameters] = {
    "limit": Whole(1, 200, default=50),
    "cursor": Words(cursors.CHARS_MAX),
}
NO_WEBHOOK: Final = Problem("not-found", "there is no such webhook")
NO_DELIVERY: Final = Problem("not-found", "there is no such delivery of this webhook")
NO_CURSOR: Final = InputError("/query/cursor", "is not a cursor of this list")
DISABLED: Final = Problem("webhook-disabled", "enable it first: nothing is sent to it now")

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLACE: Final = re.compile(rf"([0-9]{{1,17}})_({_ID.pattern})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

log = get_logger(__name__)


async def create_webhook(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/webhooks."""
    body = await _read(request, NewWebhookRequest)
    if isinstance(body, Problem):
        return body
    url, errors = _checked(services, body.url, body.events)
    if errors:
        return invalid(errors)
    assert url is not None
    secret = services.random_bytes(SECRET_BYTES)
    new = NewWebhook(
        webhook_id=services.new_run_id(),  # it rises with time, as the list wants it
        tenant_id=request.tenant_id,
        url=url,
        events=body.events,
        secret=secret,
    )
    made = await services.webhooks.create_webhook(new)
    if isinstance(made, TooManyWebhooks):
        detail = f"a tenant may have {ENDPOINTS_MAX}; delete one that is not needed"
        return Problem("webhook-limit-reached", detail, {"webhooks_max": ENDPOINTS_MAX})
    log.info("webhook created", tenant_id=made.tenant_id, webhook_id=str(made.webhook_id))
    return Answer(201, encode(webhook_secret_view(made, secret)), (NO_STORE,))


async def list_webhooks(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/webhooks."""
    query = read_query(request, LIST_QUERY)
    if isinstance(query, Problem):
        return query
    position = _position(request.tenant_id, "webhooks", query)
    before = None if position is None else _id(position)
    if position is not None and before is None:
        return invalid([NO_CURSOR])
    limit = query["limit"]
    assert isinstance(limit, int)
    found = await services.webhooks.list_webhooks(request.tenant_id, before=before, limit=limit + 1)
    page, more = found[:limit], len(found) > limit
    cursor = cursors.make("webhooks", request.tenant_id, str(page[-1].webhook_id)) if more else None
    return Answer(
        200, encode(WebhookList([webhook_view(one) for one in page], cursor)), (NO_STORE,)
    )


async def get_webhook(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/webhooks/{webhook_id}."""
    webhook_id = _id(request.params["webhook_id"])
    if webhook_id is None:
        return NO_WEBHOOK
    found = await services.webhooks.get_webhook(request.tenant_id, webhook_id)
    return NO_WEBHOOK if found is None else Answer(200, encode(webhook_view(found)), (NO_STORE,))


async def change_webhook(services: Services, request: Request) -> Answer | Problem:
    """PATCH /v1/webhooks/{webhook_id}: what is left out stays."""
    body = await _read(request, WebhookChangeRequest)
    if isinstance(body, Problem):
        return body
    url, errors = _checked(services, body.url, body.events)
    if errors:
        return invalid(errors)
    webhook_id = _id(request.params["webhook_id"])
    if webhook_id is None:
        return NO_WEBHOOK
    enabled = None if body.status is None else body.status == "enabled"
    change = WebhookChange(url=url, events=body.events, enabled=enabled)
    changed = await services.webhooks.change_webhook(request.tenant_id, webhook_id, change)
    if changed is None:
        return NO_WEBHOOK
    log.info("webhook changed", tenant_id=changed.tenant_id, webhook_id=str(webhook_id))
    return Answer(200, encode(webhook_view(changed)), (NO_STORE,))


async def delete_webhook(services: Services, request: Request) -> Answer | Problem:
    """DELETE /v1/webhooks/{webhook_id}."""
    webhook_id, tenant_id = _id(request.params["webhook_id"]), request.tenant_id
    if webhook_id is None or not await services.webhooks.delete_webhook(tenant_id, webhook_id):
        return NO_WEBHOOK
    log.info("webhook deleted", tenant_id=tenant_id, webhook_id=str(webhook_id))
    return Answer(204, b"", (NO_STORE,))


async def rotate_webhook(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/webhooks/{webhook_id}:rotate."""
    webhook_id, secret = _id(request.params["webhook_id"]), services.random_bytes(SECRET_BYTES)
    if webhook_id is None:
        return NO_WEBHOOK
    rotated = await services.webhooks.rotate_webhook(request.tenant_id, webhook_id, secret)
    if rotated is None:
        return NO_WEBHOOK
    log.info("webhook rotated", tenant_id=rotated.tenant_id, webhook_id=str(webhook_id))
    return Answer(200, encode(webhook_secret_view(rotated, secret)), (NO_STORE,))


async def list_deliveries(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/webhooks/{webhook_id}/deliveries."""
    query = read_query(request, LIST_QUERY)
    if isinstance(query, Problem):
        return query
    webhook_id = _id(request.params["webhook_id"])
    if webhook_id is None:
        return NO_WEBHOOK
    kind = f"deliveries {webhook_id}"
    position = _position(request.tenant_id, kind, query)
    before = None if position is None else _place(position)
    if position is not None and before is None:
        return invalid([NO_CURSOR])
    limit = query["limit"]
    assert isinstance(limit, int)
    found = await services.webhooks.list_deliveries(
        request.tenant_id, webhook_id, before=before, limit=limit + 1
    )
    if found is None:
        return NO_WEBHOOK
    page, more = found[:limit], len(found) > limit
    cursor = cursors.make(kind, request.tenant_id, _text(page[-1])) if more else None
    listed = DeliveryList([delivery_view(one) for one in page], cursor)
    return Answer(200, encode(listed), (NO_STORE,))


async def replay_delivery(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}:replay."""
    webhook_id, delivery_id = (_id(request.params[name]) for name in ("webhook_id", "delivery_id"))
    if webhook_id is None or delivery_id is None:
        return NO_DELIVERY
    outcome = await services.webhooks.replay_delivery(request.tenant_id, webhook_id, delivery_id)
    if isinstance(outcome, WebhookUnknown):
        return NO_DELIVERY
    if isinstance(outcome, WebhookDisabled):
        return DISABLED
    return Answer(202, encode(delivery_view(outcome)), (NO_STORE,))


def _checked(
    services: Services, url: str | None, events: tuple[str, ...] | None
) -> tuple[str | None, list[InputError]]:
    """Return the URL, normalised, and what is wrong with either."""
    errors: list[InputError] = []
    if url is not None:
        target = egress.read(url, services.outgoing)
        if isinstance(target, Refused):
            errors.append(InputError("/url", target.why))
        else:
            url = target.url
    wrong = None if events is None else wrong_events(events)
    if wrong is not None:
        errors.append(InputError("/events", wrong))
    return url, errors


async def _read(request: Request, kind: type[Body]) -> Body | Problem:
    """Return the body, or what is wrong with it."""
    body = await read_body(request, BODY_MAX)
    if isinstance(body, Problem):
        return body
    sent = decode_object(body)
    if isinstance(sent, NotJson):
        return Problem("malformed-json", sent.detail)
    found = read(sent, kind)
    return invalid(found) if isinstance(found, list) else found


def _id(text: str) -> UUID | None:
    """Return an id; None = nothing was ever named so."""
    return UUID(text) if _ID.fullmatch(text) else None


def _position(tenant_id: str, kind: str, query: Values) -> str | None:
    """Return what the cursor says, "" for what is none; None = no cursor was given."""
    cursor = query["cursor"]
    return (cursors.read(kind, tenant_id, cursor) or "") if isinstance(cursor, str) else None


def _text(delivery: Delivery) -> str:
    """Return a delivery's place in its list."""
    return f"{(delivery.created_at - _EPOCH) // _MICROSECOND}_{delivery.delivery_id}"


def _place(text: str) -> tuple[datetime, UUID] | None:
    """Return the place that a cursor names; None = it names none."""
    found = _PLACE.fullmatch(text)
    return None if found is None else (_EPOCH + int(found[1]) * _MICROSECOND, UUID(found[2]))
