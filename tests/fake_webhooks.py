"""The fake store's webhooks: endpoints, and the outbox that endings write, on dictionaries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from attrs import define, field

from dpp.egress import origin
from dpp.webhooks import (
    ATTEMPTS_MAX,
    BUDGET_LOW,
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

if TYPE_CHECKING:
    from tests.fake_rows import EndingRow, Rows

THRESHOLDS = (50, 80, 95)


@define(kw_only=True)
class WebhookRow:
    webhook_id: UUID
    tenant_id: str
    url: str
    events: tuple[str, ...]
    secret: bytes
    created_at: datetime
    previous_secret: bytes | None = None
    previous_until: datetime | None = None
    disabled_reason: str | None = None
    deleted: bool = False

    @property
    def is_off(self) -> bool:
        """Say whether nothing is sent there any more."""
        return self.deleted or self.disabled_reason is not None

    def shown(self, now: datetime) -> Webhook:
        until = self.previous_until
        return Webhook(
            webhook_id=self.webhook_id,
            tenant_id=self.tenant_id,
            url=self.url,
            events=self.events,
            created_at=self.created_at,
            disabled_reason=self.disabled_reason,
            previous_until=until if until is not None and until > now else None,
        )


@define(kw_only=True)
class DeliveryRow:
    delivery_id: UUID
    tenant_id: str
    webhook_id: UUID
    event: str
    run_id: UUID
    detail: str | None
    created_at: datetime
    next_at: datetime | None
    attempts: int = 0
    status: str = "pending"
    response_status: int | None = None
    error: str | None = None

    def shown(self) -> Delivery:
        return Delivery(
            delivery_id=self.delivery_id,
            event=self.event,
            run_id=self.run_id,
            attempts=self.attempts,
            status=self.status,
            response_status=self.response_status,
            error=self.error,
            created_at=self.created_at,
            next_at=self.next_at,
        )


@define(eq=False)
class Mail:
    """Both tables."""

    webhooks: dict[UUID, WebhookRow] = field(factory=dict)
    deliveries: dict[UUID, DeliveryRow] = field(factory=dict)

    # ── written with an ending ───────────────────────────────────────────────────────────────────

    def write_events(self, rows: Rows, ended: EndingRow, spent_before: int) -> None:
        """Write what an ending says, for each endpoint that asked for it."""
        ending, budget = ended.ending, rows.budgets[ended.ending.tenant_id]
        said: list[tuple[str, str | None]] = [(f"run.{ending.status.value.lower()}", None)]
        passed = [
            percent
            for percent in THRESHOLDS
            if budget.spent * 100 >= budget.deposited * percent > spent_before * 100
        ]
        if passed and ending.cost > 0:
            told = {
                "threshold_percent": max(passed),
                "deposited_micros": budget.deposited,
                "available_micros": budget.available,
                "held_micros": budget.held,
                "spent_micros": budget.spent,
            }
            said.append((BUDGET_LOW, json.dumps(told)))
        for webhook in self.webhooks.values():
            if webhook.tenant_id != ending.tenant_id or webhook.deleted or webhook.disabled_reason:
                continue
            for event, detail in said:
                if event in webhook.events:
                    self._write(webhook, ended, event, detail)

    def _write(self, webhook: WebhookRow, ended: EndingRow, event: str, detail: str | None) -> None:
        row = DeliveryRow(
            delivery_id=uuid4(),
            tenant_id=webhook.tenant_id,
            webhook_id=webhook.webhook_id,
            event=event,
            run_id=ended.ending.run_id,
            detail=detail,
            created_at=ended.finished_at,
            next_at=ended.finished_at,
        )
        self.deliveries[row.delivery_id] = row

    # ── for tenants ──────────────────────────────────────────────────────────────────────────────

    def mine(self, tenant_id: str, webhook_id: UUID) -> WebhookRow | None:
        row = self.webhooks.get(webhook_id)
        return None if row is None or row.tenant_id != tenant_id or row.deleted else row

    def create(self, new: NewWebhook, now: datetime) -> Webhook | TooManyWebhooks:
        held = [one for one in self.of(new.tenant_id) if one.webhook_id != new.webhook_id]
        if len(held) >= ENDPOINTS_MAX:
            return TooManyWebhooks()
        row = WebhookRow(
            webhook_id=new.webhook_id,
            tenant_id=new.tenant_id,
            url=new.url,
            events=new.events,
            secret=new.secret,
            created_at=now,
        )
        return self.webhooks.setdefault(new.webhook_id, row).shown(now)

    def of(self, tenant_id: str) -> list[WebhookRow]:
        """Return a tenant's endpoints, newest first."""
        rows = (row for row in self.webhooks.values() if row.tenant_id == tenant_id)
        return sorted(
            (row for row in rows if not row.deleted), key=lambda row: row.webhook_id, reverse=True
        )

    def origins(self, tenant_id: str) -> frozenset[str]:
        """Return the origins that a run's own URL may have."""
        rows = [row for row in self.of(tenant_id) if row.disabled_reason is None]
        heard = [row for row in rows if set(row.events) != {BUDGET_LOW}]
        return frozenset(filter(None, (origin(row.url) for row in heard)))

    def change(
        self, tenant_id: str, webhook_id: UUID, change: WebhookChange, now: datetime
    ) -> Webhook | None:
        row = self.mine(tenant_id, webhook_id)
        if row is None:
            return None
        row.url = change.url or row.url
        row.events = change.events or row.events
        if change.enabled is not None:
            reason = row.disabled_reason or "disabled by the tenant"
            row.disabled_reason = None if change.enabled else reason
        return row.shown(now)

    def delete(self, tenant_id: str, webhook_id: UUID) -> bool:
        row = self.webhooks.get(webhook_id)
        if row is None or row.tenant_id != tenant_id:
            return False
        row.deleted = True
        return True

    def rotate(
        self, tenant_id: str, webhook_id: UUID, secret: bytes, now: datetime
    ) -> Webhook | None:
        row = self.mine(tenant_id, webhook_id)
        if row is None:
            return None
        if secret not in (row.secret, row.previous_secret):
            row.previous_secret, row.secret = row.secret, secret
            row.previous_until = now + timedelta(seconds=PREVIOUS_S)
        return row.shown(now)

    def log(
        self, tenant_id: str, webhook_id: UUID, before: tuple[datetime, UUID] | None, limit: int
    ) -> list[Delivery] | None:
        if self.mine(tenant_id, webhook_id) is None:
            return None
        rows = [row for row in self.deliveries.values() if row.webhook_id == webhook_id]
        older = [r for r in rows if before is None or (r.created_at, r.delivery_id) < before]
        order = sorted(older, key=lambda row: (row.created_at, row.delivery_id), reverse=True)
        return [row.shown() for row in order[:limit]]

    def replay(
        self, tenant_id: str, webhook_id: UUID, delivery_id: UUID, now: datetime
    ) -> ReplayOutcome:
        webhook, row = self.mine(tenant_id, webhook_id), self.deliveries.get(delivery_id)
        if webhook is None:
            return WebhookUnknown()
        if webhook.disabled_reason is not None:
            return WebhookDisabled()
        if row is None or row.webhook_id != webhook_id:
            return WebhookUnknown()
        row.status, row.attempts, row.next_at = "pending", 0, now
        row.response_status = row.error = None
        return row.shown()

    # ── for the courier ──────────────────────────────────────────────────────────────────────────

    def claim(
        self,
        rows: Rows,
        now: datetime,
        *,
        rooms: Mapping[UUID, int],
        per_endpoint: int,
        tenant_rooms: Mapping[str, int],
        per_tenant: int,
        after: UUID | None,
        limit: int,
        hold_s: float,
    ) -> list[Due]:
        pending = [row for row in self.deliveries.values() if row.next_at is not None]
        due = [row for row in pending if row.next_at is not None and row.next_at <= now]
        order = sorted({row.webhook_id for row in due if after is None or row.webhook_id > after})
        taken: list[DeliveryRow] = []
        dead: list[DeliveryRow] = []  # take no place of the others
        for webhook_id in order:
            heads = sorted(
                (row for row in due if row.webhook_id == webhook_id),
                key=lambda row: (row.next_at, row.delivery_id),
            )
            if self.webhooks[webhook_id].is_off:
                dead += heads
            else:
                of_tenant = tenant_rooms.get(self.webhooks[webhook_id].tenant_id, per_tenant)
                taken += heads[: min(rooms.get(webhook_id, per_endpoint), of_tenant)]
        left = {row.tenant_id: tenant_rooms.get(row.tenant_id, per_tenant) for row in taken}
        given = []
        for row in taken[:limit]:
            if left[row.tenant_id]:
                left[row.tenant_id] -= 1
                given.append(row)
        claimed = []
        for row in [*given, *dead[:limit]]:
            over = self._over(row)
            if over is None:
                row.attempts += 1
                row.next_at = now + timedelta(seconds=hold_s)
                claimed.append(self._due(rows, row, now))
            else:
                row.status, row.next_at, row.error = "failed", None, over
        return sorted(claimed, key=lambda one: (one.created_at, one.delivery_id))

    def _over(self, row: DeliveryRow) -> str | None:
        webhook = self.webhooks[row.webhook_id]
        if webhook.deleted:
            return "the endpoint was deleted"
        if webhook.disabled_reason is not None:
            return "the endpoint is disabled"
        return "no attempt was heard of again" if row.attempts >= ATTEMPTS_MAX else None

    def _due(self, rows: Rows, row: DeliveryRow, now: datetime) -> Due:
        webhook, ended = self.webhooks[row.webhook_id], rows.endings[row.run_id]
        asked = rows.submissions[row.run_id].asked
        until, ending = webhook.previous_until, ended.ending
        own = detour(row.event, webhook.url, asked.webhook_url)
        old = until is not None and until > now and webhook.previous_secret
        return Due(
            delivery_id=row.delivery_id,
            tenant_id=row.tenant_id,
            webhook_id=row.webhook_id,
            event=row.event,
            run_id=row.run_id,
            attempts=row.attempts,
            created_at=row.created_at,
            now=now,
            url=own or webhook.url,
            is_detour=own is not None,
            secrets=(webhook.secret, old) if old else (webhook.secret,),
            run=EndedRun(
                status=ending.status.value,
                pack_type=asked.pack_type,
                idempotency_key=asked.idempotency_key,
                attempt=ended.attempts_spent + 1,
                created_at=rows.submissions[row.run_id].created_at,
                started_at=ended.started_at,
                finished_at=ended.finished_at,
                max_cost=asked.max_cost,
                actual_cost=ending.cost,
                error_code=None if ending.failure is None else ending.failure.code.value,
                result_sha256=ended.result_sha256,
                metadata=None if asked.metadata is None else asked.metadata.decode(),
                trace_id=asked.trace_id,
            ),
            detail=row.detail,
        )

    def mark(self, marks: Sequence[Attempted], now: datetime) -> list[UUID]:
        disabled = []
        for mark in marks:
            row, webhook = self.deliveries[mark.delivery_id], self.webhooks[mark.webhook_id]
            last = row.status == "pending" and row.attempts == mark.attempts
            late = mark.delivered and row.attempts >= mark.attempts
            if last or (late and row.status != "delivered"):
                again = None if mark.delivered else mark.retry_s
                row.next_at = None if again is None else now + timedelta(seconds=again)
                row.status = "pending" if again is not None else "failed"
                row.status = "delivered" if mark.delivered else row.status
                row.response_status, row.error = mark.response_status, mark.error
            if mark.is_gone and webhook.disabled_reason is None and webhook.url == mark.url:
                webhook.disabled_reason = "the receiver answered 410"
                disabled.append(webhook.webhook_id)
        return disabled

    def due_age(self, now: datetime) -> float:
        due = [row.next_at for row in self.deliveries.values() if row.next_at is not None]
        return max(0.0, *((now - at).total_seconds() for at in due), 0.0)
