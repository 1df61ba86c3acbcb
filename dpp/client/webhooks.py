"""Webhooks: where events are sent, what became of them, and how to believe one that arrives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from dpp.client import asking
from dpp.client.faults import Misconfigured, SignatureInvalid
from dpp.client.steps import Context, Items, Steps
from dpp.client.values import Delivery, Malformed, Webhook, WebhookEvent

ROOT = "/v1/webhooks"
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")


def create_webhook(context: Context, url: str, events: Iterable[str]) -> Steps[Webhook]:
    """Register a URL for these events; its `secret` is in this answer alone.

    Asked again only when it was certainly not done.
    """
    request = asking.send("POST", ROOT, {"url": url, "events": [*events]}, repeatable=False)
    return asking.fetch(context, request, Webhook)


def webhooks(context: Context) -> Items[Webhook]:
    """Give the tenant's webhooks."""
    return asking.pages(context, ROOT, Webhook)


def webhook(context: Context, webhook_id: str) -> Steps[Webhook]:
    """Return a webhook, without its secret."""
    return asking.fetch(context, asking.get(_path(webhook_id)), Webhook)


def update_webhook(
    context: Context,
    webhook_id: str,
    *,
    url: str | None = None,
    events: Iterable[str] | None = None,
    status: str | None = None,
) -> Steps[Webhook]:
    """Change what is given; `status` is "enabled" or "disabled"."""
    changed = {"url": url, "events": None if events is None else [*events], "status": status}
    request = asking.send("PATCH", _path(webhook_id), changed, repeatable=True)
    return asking.fetch(context, request, Webhook)


def delete_webhook(context: Context, webhook_id: str) -> Steps[None]:
    """Delete a webhook: nothing is sent to it any more."""
    yield from asking.deleted(context, _path(webhook_id))


def rotate_webhook(context: Context, webhook_id: str) -> Steps[Webhook]:
    """Make a new secret, which is in this answer alone; for a while both sign."""
    request = asking.send("POST", f"{_path(webhook_id)}:rotate", {}, repeatable=False)
    return asking.fetch(context, request, Webhook)


def deliveries(context: Context, webhook_id: str) -> Items[Delivery]:
    """Give what was sent to a webhook, or will be, newest first."""
    return asking.pages(context, f"{_path(webhook_id)}/deliveries", Delivery)


def replay_delivery(context: Context, webhook_id: str, delivery_id: str) -> Steps[Delivery]:
    """Send an event once more."""
    url = f"{_path(webhook_id)}/deliveries/{quote(delivery_id, safe='')}:replay"
    return asking.fetch(context, asking.send("POST", url, {}, repeatable=False), Delivery)


def verify_webhook(
    headers: Mapping[str, str], body: bytes | str, secret: str | Iterable[str]
) -> WebhookEvent:
    """Return what a webhook says, if one of the secrets signed it within the last five minutes.

    Give the body as it came, byte for byte. Else raises `SignatureInvalid`. An event may arrive
    more than once: `event_id` is the same each time.
    """
    # Only who receives webhooks needs it.
    import standardwebhooks  # noqa: PLC0415
    from standardwebhooks.webhooks import EmptyWebhookSecretError  # noqa: PLC0415

    said = {name.lower(): value for name, value in headers.items()}
    named = {name: said.get(name, "") for name in NAMES}
    why = "no secret is given"
    for one in (secret,) if isinstance(secret, str) else secret:
        try:
            signer = standardwebhooks.Webhook(one)
        except (EmptyWebhookSecretError, ValueError) as error:
            message = "a webhook's secret is whsec_ and base64"
            raise Misconfigured(message) from error
        try:
            signer.verify(body, named, json_parse=False)
        except (standardwebhooks.WebhookVerificationError, ValueError) as error:
            why = str(error)
            continue
        return _event(named["webhook-id"], body)
    raise SignatureInvalid(why)


def _event(event_id: str, body: bytes | str) -> WebhookEvent:
    try:
        return WebhookEvent.of({**json.loads(body), "event_id": event_id})
    except (ValueError, TypeError, Malformed) as error:
        raise SignatureInvalid("it is signed, and is no event of DPP") from error


def _path(webhook_id: str) -> str:
    return f"{ROOT}/{quote(webhook_id, safe='')}"
