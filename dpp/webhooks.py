"""Webhooks: what a tenant is told of its runs and its budget, how it is signed, and when it is retried.

An event is a row of the outbox, written by the transaction that ended its run, for each endpoint
that asked for it. It is delivered at least once, always under the same id and with the same bytes:
they are made from what was committed and can never change. Standard Webhooks says how it is signed
and when to try again. Pure: time, chance and secrets come in as arguments.
"""  # noqa: E501

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec
from attrs import evolve, field, frozen
from standardwebhooks import Webhook as Signer

from dpp.egress import origin
from dpp.money import show

RUN_EVENTS: Final = ("run.completed", "run.failed", "run.canceled", "run.expired")
BUDGET_LOW: Final = "budget.low"
EVENTS: Final = (*RUN_EVENTS, BUDGET_LOW)

ENDPOINTS_MAX: Final = 20  # of a tenant: each is a row written in the transaction of an ending
SECRET_BYTES: Final = 32  # 256 bits, as much as the MAC has
# A day, so that a deployment of the receiver's has time to come and go.
PREVIOUS_S: Final = 86_400
PAYLOAD_MAX: Final = 20_000  # bytes; what Standard Webhooks asks of a thin payload

# Standard Webhooks' own schedule, of which the first attempt is the one at once: three days and
# three hours in all, long enough for a weekend without anybody there.
RETRY_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ATTEMPTS_MAX: Final = len(RETRY_S) + 1
JITTER: Final = 0.2  # of a pause, up or down: what failed together is not tried again together
GONE: Final = 410  # the receiver wants no more, ever

BREAKER_FAILURES: Final = 5  # in a row: a receiver that is down, not one event that it dislikes
# Until one delivery tries whether it is back. Short beside the schedule, and one send a minute and
# node is nothing to a receiver that is down.
BREAKER_S: Final = 60.0
# A send that takes longer is slow: half of what a receiver may take, and twenty times what one
# takes that does its work afterwards, so it costs the others as much as twenty of those.
SLOW_S: Final = 5.0

_ENCODER: Final = msgspec.json.Encoder()


@frozen(kw_only=True)
class Webhook:
    """An endpoint of a tenant, without its secret. `disabled_reason` None = it is enabled."""

    webhook_id: UUID
    tenant_id: str
    url: str
    events: tuple[str, ...]
    created_at: datetime
    disabled_reason: str | None = None
    previous_until: datetime | None = None  # the secret before this one signs, too

    @property
    def status(self) -> str:
        """Return what clients call it."""
        return "enabled" if self.disabled_reason is None else "disabled"


@frozen(kw_only=True)
class NewWebhook:
    """An endpoint to store; the id is its identity when it is asked for again."""

    webhook_id: UUID
    tenant_id: str
    url: str
    events: tuple[str, ...]
    secret: bytes = field(repr=False)


@frozen(kw_only=True)
class WebhookChange:
    """What a tenant changes; None = stays."""

    url: str | None = None
    events: tuple[str, ...] | None = None
    enabled: bool | None = None


@frozen
class TooManyWebhooks:
    """The tenant has `ENDPOINTS_MAX` already."""


@frozen
class WebhookUnknown:
    """The tenant has no such endpoint, or it has no such delivery."""


@frozen
class WebhookDisabled:
    """Nothing is sent there, so nothing is replayed either."""


@frozen(kw_only=True)
class Delivery:
    """A line of an endpoint's log. `next_at`: of the next attempt; None = there is none."""

    delivery_id: UUID
    event: str
    run_id: UUID
    attempts: int
    status: str
    response_status: int | None
    error: str | None
    created_at: datetime
    next_at: datetime | None


ReplayOutcome: TypeAlias = Delivery | WebhookUnknown | WebhookDisabled


@frozen(kw_only=True)
class EndedRun:
    """What a run's event says; all of it immutable. `metadata`: JSON text, None = there is none."""

    status: str
    pack_type: str
    idempotency_key: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime
    max_cost: int
    actual_cost: int
    error_code: str | None
    result_sha256: bytes | None
    metadata: str | None
    trace_id: str


@frozen(kw_only=True)
class Due:
    """A delivery that was claimed: this is its attempt number `attempts`.

    `now`: the database's time at the claim. `is_detour`: `url` is the run's own, not the
    endpoint's. `detail`: of a budget.low, JSON text with what the budget was.
    """

    delivery_id: UUID
    tenant_id: str
    webhook_id: UUID
    event: str
    run_id: UUID
    attempts: int
    created_at: datetime
    now: datetime
    url: str
    is_detour: bool
    secrets: tuple[bytes, ...] = field(repr=False)
    run: EndedRun | None = None
    detail: str | None = None


@frozen(kw_only=True)
class Attempted:
    """What became of an attempt. `retry_s` None = there is no other one.

    `is_gone`: the endpoint itself said that it wants no more.
    """

    delivery_id: UUID
    webhook_id: UUID
    tenant_id: str
    attempts: int
    delivered: bool
    url: str
    response_status: int | None = None
    error: str | None = None
    retry_s: float | None = None
    is_gone: bool = False

    @property
    def outcome(self) -> str:
        """Return the word for the metric."""
        if self.delivered:
            return "delivered"
        if self.is_gone:
            return "gone"
        return "failed" if self.retry_s is None else "retried"


# ── endpoints ────────────────────────────────────────────────────────────────────────────────────


def secret_text(secret: bytes) -> str:
    """Return a secret as it is shown, once."""
    return f"whsec_{base64.b64encode(secret).decode('ascii')}"


def wrong_events(events: Sequence[str]) -> str | None:
    """Say what events must be; None = these are."""
    if not events or not set(events) <= set(EVENTS) or len(set(events)) != len(events):
        return f"must be some of {', '.join(EVENTS)}, each once"
    return None


def detour(event: str, url: str, of_run: str | None) -> str | None:
    """Return where the run itself wants an event of an endpoint at `url`; None = there.

    Whatever endpoint has the origin of the run's own URL gives way to it; the budget is no run's.
    """
    if of_run is None or event == BUDGET_LOW or origin(of_run) != origin(url):
        return None
    return of_run


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────


def payload(due: Due) -> bytes:
    """Return the bytes that are sent, the same at each attempt."""
    data = _budget(due) if due.event == BUDGET_LOW else _run(due)
    body = _ENCODER.encode(_event(due, data))
    if len(body) >= PAYLOAD_MAX and "metadata" in data:
        body = _ENCODER.encode(_event(due, {**data, "metadata": None}))
    assert len(body) < PAYLOAD_MAX, due.delivery_id
    return body


def _event(due: Due, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": due.event, "timestamp": due.created_at, "data": data}


def _run(due: Due) -> dict[str, Any]:
    """Return what is said of a run; more is to be had under its links."""
    run, path = due.run, f"/v1/runs/{due.run_id}"
    assert run is not None, due.run_id
    digest = run.result_sha256
    return {
        "run_id": str(due.run_id),
        "status": run.status,
        "pack_type": run.pack_type,
        "idempotency_key": run.idempotency_key,
        "attempt": run.attempt,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "cost": {
            "max_usd": show(run.max_cost),
            "actual_usd": show(run.actual_cost),
            "returned_usd": show(run.max_cost - run.actual_cost),
            "currency": "USD",
        },
        "error": None if run.error_code is None else {"code": run.error_code},
        "result_sha256": None if digest is None else digest.hex(),
        "trace_id": run.trace_id,
        "links": {
            "self": path,
            "result": None if digest is None else f"{path}/result",
            "receipt": f"{path}/receipt",
        },
        "metadata": {} if run.metadata is None else msgspec.json.decode(run.metadata),
    }


def _budget(due: Due) -> dict[str, Any]:
    """Return what is said of a budget: how it stood when the run's end was booked."""
    assert due.detail is not None, due.delivery_id
    was = msgspec.json.decode(due.detail)
    parts = ("deposited", "available", "held", "spent")
    return {
        "threshold_percent": was["threshold_percent"],
        "budget": {
            **{f"{part}_usd": show(was[f"{part}_micros"]) for part in parts},
            "currency": "USD",
        },
        "run_id": str(due.run_id),
    }


def headers(due: Due, unix_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of an attempt made at this time, signed with every secret that holds."""
    named, text = str(due.delivery_id), body.decode()
    at = datetime.fromtimestamp(unix_s, UTC)
    signatures = [Signer(secret).sign(named, at, text) for secret in due.secrets]
    return {
        "content-type": "application/json",
        "user-agent": "DPP-Webhooks/1",
        "webhook-id": named,
        "webhook-timestamp": str(unix_s),
        "webhook-signature": " ".join(signatures),
    }


# ── what comes of it ─────────────────────────────────────────────────────────────────────────────


def judge(due: Due, status: int | None, why: str | None, dice: float) -> Attempted:
    """Decide what an answer means: its status, or None and why there is none. `dice`: 0 up to 1.

    Only 2xx is a delivery; a redirect is none. 410 from the endpoint's own URL means that it wants
    no more; from the URL that one run named, only that this delivery has no place to go.
    """
    assert (status is None) != (why is None)
    mark = Attempted(
        delivery_id=due.delivery_id,
        webhook_id=due.webhook_id,
        tenant_id=due.tenant_id,
        attempts=due.attempts,
        delivered=status is not None and 200 <= status < 300,  # noqa: PLR2004 - HTTP's classes
        url=due.url,
        response_status=status,
    )
    if mark.delivered:
        return mark
    mark = evolve(mark, error=why or f"HTTP {status}")
    if status == GONE:
        return evolve(mark, is_gone=not due.is_detour)
    return evolve(mark, retry_s=retry_s(due.attempts, dice))


def retry_s(attempts: int, dice: float) -> float | None:
    """Return how long to wait after attempt number `attempts`; None = it was the last."""
    assert attempts > 0
    if attempts >= ATTEMPTS_MAX:
        return None
    return RETRY_S[attempts - 1] * (1 + JITTER * (2 * dice - 1))


@frozen
class Breaker:
    """Whether an endpoint is worth a try, as one node sees it; times are of one clock, in seconds.

    Closed, it lets everything through. After `BREAKER_FAILURES` in a row that failed or were slow
    it is open: nothing is claimed for the endpoint, so nothing loses an attempt. Then it is half
    open, for one at a time, until one is delivered that is not slow.

    After one that failed there is a pause before the next. After one that was slow and delivered
    there is none: the receiver keeps what it was promised, `SEND_S`, and a pause would bring its
    events later and later, for as long as it has more than one a minute. So it has them one by one,
    at its own pace, and holds one place of the node instead of many.
    """

    failures: int = 0
    half_open_at: float | None = None

    def room(self, now: float, usual: int) -> int:
        """Return how many deliveries may be on their way at once."""
        if self.half_open_at is None:
            return usual
        return 1 if now >= self.half_open_at else 0

    def after(self, *, delivered: bool, took_s: float, now: float) -> "Breaker":
        """Return the breaker after an attempt that was answered, or not, at this time."""
        if delivered and took_s <= SLOW_S:
            return Breaker()
        failures = self.failures + 1
        if failures < BREAKER_FAILURES:
            return Breaker(failures)
        return Breaker(failures, now if delivered else now + BREAKER_S)
