"""Webhooks: endpoints of tenants, and the outbox that the transactions of endings write."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from dpp import metrics
from dpp.admission import Busy
from dpp.money import Micros
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import transaction
from dpp.webhooks import (
    ATTEMPTS_MAX,
    ENDPOINTS_MAX,
    PREVIOUS_S,
    Attempted,
    Delivery,
    Due,
    EndedRun,
    NewWebhook,
    ReplayOutcome,
    TooManyWebhooks,
    Webhook,
    WebhookChange,
    WebhookDisabled,
    WebhookUnknown,
    detour,
)

BY_TENANT = "disabled by the tenant"
BY_RECEIVER = "the receiver answered 410"

# ── for tenants ──────────────────────────────────────────────────────────────────────────────────


async def create_webhook(
    connection: Connection, new: NewWebhook, *, wait: bool
) -> Webhook | TooManyWebhooks | Busy:
    """Store an endpoint. Asked again under its id it answers the same one.

    The tenant's row is held, so endpoints are counted exactly; without `wait`, `Busy` where
    somebody else has it.
    """
    lock = queries.lock_tenant if wait else queries.lock_tenant_free
    async with transaction(connection):
        if await lock.fetch_one(connection, tenant_id=new.tenant_id) is None:
            return Busy()
        await queries.write_webhook.fetch(
            connection,
            webhook_id=new.webhook_id,
            tenant_id=new.tenant_id,
            url=new.url,
            events=list(new.events),
            secret=new.secret,
            most=ENDPOINTS_MAX,
        )
        made = await get_webhook(connection, new.tenant_id, new.webhook_id)
    return made or TooManyWebhooks()


async def get_webhook(connection: Connection, tenant_id: str, webhook_id: UUID) -> Webhook | None:
    """Return an endpoint of this tenant."""
    row = await queries.get_webhook.fetch_one(
        connection, tenant_id=tenant_id, webhook_id=webhook_id
    )
    return None if row is None else webhook(row)


async def list_webhooks(
    connection: Connection, tenant_id: str, *, before: UUID | None, limit: int
) -> list[Webhook]:
    """Return a page of endpoints, newest first."""
    rows = await queries.list_webhooks.fetch(
        connection, tenant_id=tenant_id, before=before, limit=limit
    )
    return [webhook(row) for row in rows]


async def change_webhook(
    connection: Connection, tenant_id: str, webhook_id: UUID, change: WebhookChange
) -> Webhook | None:
    """Change an endpoint; None = the tenant has no such one."""
    async with transaction(connection):
        await queries.change_webhook.fetch(
            connection,
            tenant_id=tenant_id,
            webhook_id=webhook_id,
            url=change.url,
            events=None if change.events is None else list(change.events),
            enabled=change.enabled,
            reason=BY_TENANT,
        )
        return await get_webhook(connection, tenant_id, webhook_id)


async def delete_webhook(connection: Connection, tenant_id: str, webhook_id: UUID) -> bool:
    """Delete an endpoint; False = the tenant has no such one."""
    async with transaction(connection):
        row = await queries.delete_webhook.fetch_one(
            connection, tenant_id=tenant_id, webhook_id=webhook_id
        )
    return row is not None


async def rotate_webhook(
    connection: Connection, tenant_id: str, webhook_id: UUID, secret: bytes
) -> Webhook | None:
    """Give an endpoint a new secret. Asked again with the same one it changes nothing."""
    async with transaction(connection):
        await queries.rotate_webhook.fetch(
            connection,
            tenant_id=tenant_id,
            webhook_id=webhook_id,
            secret=secret,
            previous_s=PREVIOUS_S,
        )
        return await get_webhook(connection, tenant_id, webhook_id)


async def list_deliveries(
    connection: Connection,
    tenant_id: str,
    webhook_id: UUID,
    *,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Delivery] | None:
    """Return a page of an endpoint's log, newest first; None = the tenant has no such endpoint."""
    if await get_webhook(connection, tenant_id, webhook_id) is None:
        return None
    before_at, before_id = before or (None, None)
    rows = await queries.list_deliveries.fetch(
        connection, webhook_id=webhook_id, before_at=before_at, before_id=before_id, limit=limit
    )
    return [delivery(row) for row in rows]


async def replay_delivery(
    connection: Connection, tenant_id: str, webhook_id: UUID, delivery_id: UUID
) -> ReplayOutcome:
    """Set a delivery due again, its attempts anew."""
    async with transaction(connection):
        endpoint = await get_webhook(connection, tenant_id, webhook_id)
        if endpoint is None:
            return WebhookUnknown()
        if endpoint.disabled_reason is not None:
            return WebhookDisabled()
        row = await queries.replay_delivery.fetch_one(
            connection, tenant_id=tenant_id, webhook_id=webhook_id, delivery_id=delivery_id
        )
    return WebhookUnknown() if row is None else delivery(row)


# ── for the courier ──────────────────────────────────────────────────────────────────────────────


async def claim_deliveries(
    connection: Connection,
    *,
    rooms: Mapping[UUID, int],
    per_endpoint: int,
    tenant_rooms: Mapping[str, int],
    per_tenant: int,
    after: UUID | None,
    limit: int,
    hold_s: float,
) -> list[Due]:
    """Claim due deliveries; they are hidden for `hold_s`. What can never be sent is failed here.

    Asked once: those of a COMMIT that got no answer come again when they are no longer hidden.
    """
    async with transaction(connection, "claim_deliveries"):
        rows = await queries.claim_deliveries.fetch(
            connection,
            busy_ids=list(rooms),
            rooms=list(rooms.values()),
            per_endpoint=per_endpoint,
            busy_tenants=list(tenant_rooms),
            tenant_rooms=list(tenant_rooms.values()),
            per_tenant=per_tenant,
            after=after,
            limit=limit,
            hold_s=hold_s,
            attempts_max=ATTEMPTS_MAX,
        )
    claimed = [due(row) for row in rows if row["over"] is None]
    metrics.webhook_deliveries_total.labels("dropped").inc(len(rows) - len(claimed))
    return claimed


async def mark_deliveries(connection: Connection, marks: Sequence[Attempted]) -> list[UUID]:
    """Write down what became of attempts; returns the endpoints that were disabled for it.

    Lock order: deliveries by id, then endpoints. Asked again it changes nothing.
    """
    gone = {mark.webhook_id: mark.url for mark in marks if mark.is_gone}
    disabled: Sequence[Row] = ()
    async with transaction(connection, "mark_deliveries"):
        await queries.mark_deliveries.fetch(
            connection,
            delivery_ids=[mark.delivery_id for mark in marks],
            attempts=[mark.attempts for mark in marks],
            delivered=[mark.delivered for mark in marks],
            statuses=[mark.response_status for mark in marks],
            errors=[mark.error for mark in marks],
            retries=[mark.retry_s for mark in marks],
        )
        if gone:
            ordered = sorted(gone)
            disabled = await queries.disable_webhooks.fetch(
                connection,
                webhook_ids=ordered,
                urls=[gone[webhook_id] for webhook_id in ordered],
                reason=BY_RECEIVER,
            )
    return [row["webhook_id"] for row in disabled]


async def due_delivery_age(connection: Connection) -> float:
    """Return for how many seconds the delivery that is due longest has been so; 0 = none is."""
    row = await queries.due_delivery_age.fetch_one(connection)
    return 0.0 if row is None or row["age_s"] is None else float(row["age_s"])


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


def webhook(row: Row) -> Webhook:
    """Read an endpoint."""
    return Webhook(
        webhook_id=row["webhook_id"],
        tenant_id=row["tenant_id"],
        url=row["url"],
        events=tuple(row["events"]),
        created_at=row["created_at"],
        disabled_reason=row["disabled_reason"],
        previous_until=row["previous_until"],
    )


def delivery(row: Row) -> Delivery:
    """Read a line of a delivery log."""
    return Delivery(
        delivery_id=row["delivery_id"],
        event=row["event"],
        run_id=row["run_id"],
        attempts=row["attempts"],
        status=row["status"],
        response_status=row["response_status"],
        error=row["error"],
        created_at=row["created_at"],
        next_at=row["next_at"],
    )


def due(row: Row) -> Due:
    """Read a claimed delivery; the newer secret signs first."""
    secrets = (row["secret"], row["previous_secret"])
    own = detour(row["event"], row["url"], row["webhook_url"])
    return Due(
        delivery_id=row["delivery_id"],
        tenant_id=row["tenant_id"],
        webhook_id=row["webhook_id"],
        event=row["event"],
        run_id=row["run_id"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        now=row["now"],
        url=own or row["url"],
        is_detour=own is not None,
        secrets=tuple(secret for secret in secrets if secret is not None),
        run=None if row["run_status"] is None else ended_run(row),
        detail=row["detail"],
    )


def ended_run(row: Row) -> EndedRun:
    """Read what an event says of its run."""
    return EndedRun(
        status=row["run_status"],
        pack_type=row["pack_type"],
        idempotency_key=row["idempotency_key"],
        attempt=row["attempts_spent"] + 1,
        created_at=row["submitted_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        max_cost=Micros(row["max_cost"]),
        actual_cost=Micros(row["cost"]),
        error_code=row["error_code"],
        result_sha256=row["result_sha256"],
        metadata=row["metadata"],
        trace_id=row["trace_id"],
    )
