"""Webhooks and their deliveries, as they go out."""

from typing import Any, Literal, cast

from attrs import frozen

from dpp.http.views.encoding import Time
from dpp.webhooks import Delivery, Webhook, secret_text


@frozen(kw_only=True, slots=False)
class WebhookView:
    """An endpoint, without its secret.

    `disabled_reason` is null while it is enabled. `previous_secret_until`: until then events are
    signed with the secret before this one, too.
    """

    webhook_id: str
    url: str
    events: list[str]
    status: Literal["enabled", "disabled"]
    disabled_reason: str | None
    created_at: Time
    previous_secret_until: Time | None


@frozen(kw_only=True, slots=False)
class WebhookSecretView(WebhookView):
    """An endpoint that was made, or whose secret is new; `secret` is in this answer alone."""

    secret: str


@frozen(slots=False)
class WebhookList:
    """A page of endpoints, newest first."""

    items: list[WebhookView]
    next_cursor: str | None


@frozen(kw_only=True, slots=False)
class DeliveryView:
    """An event on its way to an endpoint.

    `next_at`: when it is tried next; null when it was delivered, or will not be tried any more.
    """

    delivery_id: str
    event: str
    run_id: str
    attempts: int
    status: Literal["pending", "delivered", "failed"]
    response_status: int | None
    error: str | None
    created_at: Time
    next_at: Time | None


@frozen(slots=False)
class DeliveryList:
    """A page of an endpoint's deliveries, newest first."""

    items: list[DeliveryView]
    next_cursor: str | None


def webhook_view(webhook: Webhook) -> WebhookView:
    """Return an endpoint as the API shows it."""
    return WebhookView(**_webhook(webhook))


def webhook_secret_view(webhook: Webhook, secret: bytes) -> WebhookSecretView:
    """Return an endpoint with its secret, once."""
    return WebhookSecretView(**_webhook(webhook), secret=secret_text(secret))


def _webhook(webhook: Webhook) -> dict[str, Any]:
    return {
        "webhook_id": str(webhook.webhook_id),
        "url": webhook.url,
        "events": list(webhook.events),
        "status": webhook.status,
        "disabled_reason": webhook.disabled_reason,
        "created_at": webhook.created_at,
        "previous_secret_until": webhook.previous_until,
    }


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Return a line of a delivery log as the API shows it."""
    return DeliveryView(
        delivery_id=str(delivery.delivery_id),
        event=delivery.event,
        run_id=str(delivery.run_id),
        attempts=delivery.attempts,
        status=cast("Any", delivery.status),
        response_status=delivery.response_status,
        error=delivery.error,
        created_at=delivery.created_at,
        next_at=delivery.next_at,
    )
