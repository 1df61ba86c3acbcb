"""What is sent to a tenant's webhooks: the `webhooks` of the document.

The payloads are made by `dpp.webhooks`; these types describe them, and a test holds one against the
other. The examples are made by it, too.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from attrs import evolve, frozen
from msgspec import Meta

from dpp.http.openapi.examples import DELIVERY_ID, RESULT_SHA256, RUN_ID, WEBHOOK_ID
from dpp.http.views.encoding import SCHEMAS
from dpp.webhooks import BUDGET_LOW, EVENTS, RUN_EVENTS, Due, EndedRun, headers, payload

Json: TypeAlias = dict[str, Any]
Time = Annotated[datetime, Meta(tz=True)]
# Where to look; `result` is null where there is none.
Links: TypeAlias = dict[Literal["self", "result", "receipt"], str | None]


@frozen(slots=False)
class ToldCost:
    """What the run cost: returned = max - actual."""

    max_usd: str
    actual_usd: str
    returned_usd: str
    currency: Literal["USD"]


@frozen(slots=False)
class ToldError:
    """Why it failed; the run has the detail."""

    code: str


@frozen(kw_only=True, slots=False)
class ToldRun:
    """A run that has ended. `metadata` is null where it would have made the event too large."""

    run_id: str
    status: Literal["COMPLETED", "FAILED", "CANCELED", "EXPIRED"]
    pack_type: str
    idempotency_key: str
    attempt: int
    created_at: Time
    started_at: Time | None
    finished_at: Time
    cost: ToldCost
    error: ToldError | None
    result_sha256: str | None
    trace_id: str
    links: Links
    metadata: dict[str, str] | None


@frozen(slots=False)
class RunEvent:
    """A run has ended."""

    type: Literal["run.completed", "run.failed", "run.canceled", "run.expired"]
    timestamp: Time
    data: ToldRun


@frozen(slots=False)
class ToldBudget:
    """A budget as it was then: deposited = available + held + spent."""

    deposited_usd: str
    available_usd: str
    held_usd: str
    spent_usd: str
    currency: Literal["USD"]


@frozen(slots=False)
class ToldLow:
    """How much of the budget is used, and by the end of which run."""

    threshold_percent: Literal[50, 80, 95]
    budget: ToldBudget
    run_id: str


@frozen(slots=False)
class BudgetEvent:
    """So much of the budget is used."""

    type: Literal["budget.low"]
    timestamp: Time
    data: ToldLow


TYPES: Final = (RunEvent, BudgetEvent)
_WHEN: Final[Mapping[str, str]] = {
    "run.completed": "A run has completed",
    "run.failed": "A run has failed",
    "run.canceled": "A run was canceled",
    "run.expired": "A run was never started, and expired",
    BUDGET_LOW: "50, 80 or 95 % of the budget is used",
}
_STATUSES: Final = dict(
    zip(RUN_EVENTS, ("COMPLETED", "FAILED", "CANCELED", "EXPIRED"), strict=True)
)
_ABOUT: Final = (
    "Sent to each webhook that asked for the event, at least once, always with the same bytes and "
    "the same webhook-id. Check the signature over the bytes as they came (Standard Webhooks), "
    "answer 2xx within 10 s, and act afterwards. Anything else is tried again for three days; 410 "
    "disables the webhook."
)
_ENDED: Final = EndedRun(
    status="COMPLETED",
    pack_type="echo",
    idempotency_key="order-4711",
    attempt=1,
    created_at=datetime(2026, 6, 14, 9, 30, tzinfo=UTC),
    started_at=datetime(2026, 6, 14, 9, 30, 1, tzinfo=UTC),
    finished_at=datetime(2026, 6, 14, 9, 30, 2, tzinfo=UTC),
    max_cost=100_000,
    actual_cost=50_000,
    error_code=None,
    result_sha256=bytes.fromhex(RESULT_SHA256),
    metadata='{"order":"4711"}',
    trace_id="0af7651916cd43dd8448eb211c80319c",
)
_BUDGET: Final = {
    "threshold_percent": 50,
    "deposited_micros": 10_000_000,
    "available_micros": 4_950_000,
    "held_micros": 0,
    "spent_micros": 5_050_000,
}


def due(event: str) -> Due:
    """Return an example of a delivery."""
    ended = None
    if event in RUN_EVENTS:
        done = event == "run.completed"
        ended = evolve(
            _ENDED,
            status=_STATUSES[event],
            actual_cost=50_000 if done else 5_000 if event == "run.failed" else 0,
            error_code="pack_refused" if event == "run.failed" else None,
            result_sha256=_ENDED.result_sha256 if done else None,
            started_at=None if event == "run.expired" else _ENDED.started_at,
        )
    return Due(
        delivery_id=UUID(DELIVERY_ID),
        tenant_id="acme",
        webhook_id=UUID(WEBHOOK_ID),
        event=event,
        run_id=UUID(RUN_ID),
        attempts=1,
        created_at=_ENDED.finished_at,
        now=_ENDED.finished_at,
        url="https://hooks.shop.example.com/dpp",
        is_detour=False,
        secrets=(bytes(range(32)),),
        run=ended,
        detail=None if ended else msgspec.json.encode(_BUDGET).decode(),
    )


def webhooks() -> Json:
    """Return the section of the document."""
    return {event: {"post": _event(event)} for event in EVENTS}


def _event(event: str) -> Json:
    kind = RunEvent if event in RUN_EVENTS else BudgetEvent
    example = due(event)
    body = payload(example)
    return {
        "operationId": f"on_{event.replace('.', '_')}",
        "summary": _WHEN[event],
        "description": _ABOUT,
        "tags": ["Webhooks"],
        "security": [],
        "parameters": _headers(example, body),
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "allOf": [
                            {"$ref": SCHEMAS + kind.__name__},
                            {"properties": {"type": {"const": event}}},
                        ]
                    },
                    "examples": {"example": {"value": msgspec.json.decode(body)}},
                }
            },
        },
        "responses": {
            "2XX": {"description": "You have it; it is not sent again."},
            "410": {"description": "You want no more: the webhook is disabled."},
            "default": {"description": "It is sent again later. Redirects are not followed."},
        },
    }


def _headers(example: Due, body: bytes) -> list[Json]:
    unix_s = int(example.now.timestamp())
    values = headers(example, unix_s, body)
    told = {
        "webhook-id": "The delivery: the same at each attempt. Act once on each id.",
        "webhook-timestamp": "Seconds since 1970 of this attempt. Refuse those that are too old.",
        "webhook-signature": "`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}` in Base64; "
        "two of them, with a blank between, for a day after a rotation.",
    }
    return [
        {
            "name": name,
            "in": "header",
            "required": True,
            "description": description,
            "schema": {"type": "string"},
            "example": values[name],
        }
        for name, description in told.items()
    ]
