"""What goes out: the objects of the API as attrs types, made from the core's values.

Money becomes decimal strings here and nowhere else. msgspec writes these types, and makes their
schemas for the OpenAPI document. Without slots, because msgspec writes a slotted class slower and
in the order of the alphabet.
"""

from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

import msgspec
from attrs import asdict, field, frozen
from msgspec import Meta

from dpp.keyring import Rotated
from dpp.keys import Key, made_by_key
from dpp.ledger import Budget, Entry
from dpp.money import ZERO, Micros, show
from dpp.pricing import PackFacts, Quote, policy_text
from dpp.receipts import Receipt
from dpp.runs import Failure, Run, Status, payer
from dpp.usage import Usage
from dpp.webhooks import Delivery, Webhook, secret_text

USD: Final = "USD"
SCHEMAS: Final = "#/components/schemas/"
StatusText: TypeAlias = Literal[
    "QUEUED", "PROCESSING", "COMPLETED", "FAILED", "CANCELED", "EXPIRED"
]

Time = Annotated[datetime, Meta(tz=True)]
# Where else to look, by name.
Links: TypeAlias = dict[Literal["self", "cancel", "result", "events", "receipt"], str]


@frozen(slots=False)
class CostView:
    """The money of a run; `actual_usd` is null until it ends."""

    max_usd: str
    held_usd: str
    actual_usd: str | None
    minimum_fee_usd: str
    currency: Literal["USD"]
    policy: str


@frozen(slots=False)
class ProgressView:
    """How far the pack says it is: 0 to 1, and a note."""

    fraction: float
    note: str


@frozen(slots=False)
class ErrorView:
    """Why a run failed, and who pays for it."""

    code: str
    detail: str
    payer: str


@frozen(kw_only=True, slots=False)
class RunView:
    """A run."""

    run_id: str
    status: StatusText
    pack_type: str
    idempotency_key: str
    attempt: int
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    expires_at: Time
    result_expires_at: Time | None
    cost: CostView
    progress: ProgressView | None
    metadata: dict[str, str]
    result: Any
    result_sha256: str | None
    error: ErrorView | None
    trace_id: str
    links: Links


@frozen(slots=False)
class RunList:
    """A page of runs, newest first."""

    items: list[RunView]
    next_cursor: str | None


@frozen(slots=False)
class ProblemView:
    """A problem (RFC 9457); some types carry members of their own."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


@frozen(slots=False)
class BatchRun:
    """The answer to one submission that names a run."""

    status: Literal[201]
    run: RunView
    replayed: bool


@frozen(slots=False)
class BatchRefusal:
    """The answer to one submission that was refused."""

    status: int
    problem: dict[str, Any]


# msgspec makes no schema of a union of classes, so it is written out.
BatchItem = Annotated[
    object,
    Meta(
        extra_json_schema={
            "oneOf": [{"$ref": SCHEMAS + name} for name in ("BatchRun", "BatchRefusal")]
        }
    ),
]


@frozen(slots=False)
class BatchAnswer:
    """The answers to a batch, in the order of its submissions."""

    items: list[BatchItem]


@frozen(slots=False)
class BudgetView:
    """A tenant's money: deposited = available + held + spent."""

    deposited_usd: str
    available_usd: str
    held_usd: str
    spent_usd: str
    currency: Literal["USD"]


@frozen(slots=False)
class TransferView:
    """One line of the ledger."""

    transfer_id: str
    seq: int
    kind: str
    amount_usd: str
    cost_usd: str | None
    returned_usd: str | None
    run_id: str | None
    reference: str | None
    reason: str | None
    created_at: Time


@frozen(slots=False)
class TransferList:
    """A page of the ledger, newest first."""

    items: list[TransferView]
    next_cursor: str | None


@frozen(slots=False)
class TransferNames:
    """The two lines of the ledger that a receipt is about."""

    reserve: str
    resolution: str


@frozen(kw_only=True, slots=False)
class ReceiptView:
    """What a run cost, and why: one a resolution, of voids too."""

    receipt_version: Literal[1]
    run_id: str
    tenant_id: str
    pack_type: str
    pack_version: str
    status: Literal["COMPLETED", "FAILED", "CANCELED", "EXPIRED"]
    attempt: int
    inputs_sha256: str
    result_sha256: str | None
    reserved_usd: str
    cost_usd: str
    returned_usd: str
    policy: str
    transfer_ids: TransferNames
    created_at: Time
    settled_at: Time


@frozen(slots=False)
class ExpectedView:
    """Between what a run is expected to cost if it completes."""

    low: str
    high: str


@frozen(kw_only=True, slots=False)
class QuoteView:
    """What a submission would reserve, and may cost. It binds nobody."""

    pack_type: str
    reserve_usd: str
    expected_usd: ExpectedView
    minimum_fee_usd: str
    currency: Literal["USD"]
    policy: str
    binding: Literal[False]


@frozen(slots=False)
class PriceView:
    """The rule in words, and the amounts in it by name."""

    rule: str
    rates_usd: dict[str, str]


@frozen(kw_only=True, slots=False)
class LimitsView:
    """What a run of the pack may take: seconds, bytes of the result, and its most by the plan."""

    timebox_s: int
    timebox_max_s: int
    result_max_bytes: int
    max_cost_usd: str


@frozen(kw_only=True, slots=False)
class PackView:
    """A pack: what it takes and gives, as JSON Schema, and what it costs."""

    pack_type: str
    version: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    price: PriceView
    limits: LimitsView


@frozen(slots=False)
class PackList:
    """The packs that the tenant may use, by name."""

    items: list[PackView]


@frozen(kw_only=True, slots=False)
class UsageDayView:
    """What ended on a UTC day, and what it cost."""

    day: date
    runs: int
    completed: int
    failed: int
    cost_usd: str
    reserved_usd: str


@frozen(kw_only=True, slots=False)
class UsageTotals:
    """The sums of the days."""

    runs: int
    completed: int
    failed: int
    cost_usd: str
    reserved_usd: str


@frozen(kw_only=True, slots=False)
class UsageView:
    """Every UTC day of a period, oldest first, and the sums."""

    first_day: date
    last_day: date
    items: list[UsageDayView]
    totals: UsageTotals
    currency: Literal["USD"]


@frozen(kw_only=True, slots=False)
class KeyView:
    """An API key, without its secret.

    `created_by`: "operator", "key:…" or "rotation:…" with the id of a key. `last_used_at`: true to
    an hour. `ended`: revoked or expired. `spent_usd` is what counts against the spend limit, which
    keys may share: what their runs cost, and what is reserved for those under way.
    """

    key_id: str
    scopes: Sequence[str]
    created_at: Time
    created_by: str
    expires_at: Time | None
    last_used_at: Time | None
    revoked: bool
    ended: bool
    spend_limit_usd: str | None
    spent_usd: str | None


@frozen(kw_only=True, slots=False)
class MadeKeyView(KeyView):
    """A key that was made; `api_key` is in this answer alone."""

    api_key: str


@frozen(kw_only=True, slots=False)
class RotatedKeyView(MadeKeyView):
    """A key that was made by a rotation, and the one that it replaces."""

    replaces: KeyView


@frozen(slots=False)
class KeyList:
    """A page of keys, newest first."""

    items: list[KeyView]
    next_cursor: str | None


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


@frozen(slots=False)
class ServiceView:
    """What answers here."""

    service: str
    version: str
    status: str


@frozen(slots=False)
class HealthView:
    """The process lives."""

    status: str
    version: str


@frozen(slots=False)
class ReadyView:
    """Whether requests should come here, and each dependency in use.

    `degraded`: what is amiss and does not keep requests away. `differing`: nodes whose plans or
    packs are not this node's.
    """

    status: Literal["ready", "degraded", "not_ready"]
    services: dict[str, str]
    degraded: list[str] = field(factory=list)
    differing: dict[str, list[str]] = field(factory=dict)


def run_view(run: Run) -> RunView:
    """Return a run as the API shows it."""
    path = f"/v1/runs/{run.run_id}"
    failure, digest = run.failure, run.result_sha256
    return RunView(
        run_id=str(run.run_id),
        status=run.status.value,
        pack_type=run.pack_type,
        idempotency_key=run.idempotency_key,
        attempt=run.attempt,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        expires_at=run.expires_at,
        result_expires_at=run.result_expires_at,
        cost=_cost(run),
        progress=_progress(run),
        metadata=cast("dict[str, str]", msgspec.Raw(run.metadata or b"{}")),
        result=None if run.result is None else msgspec.Raw(run.result),
        result_sha256=None if digest is None else digest.hex(),
        error=None if failure is None else error_view(failure, run.actual_cost or ZERO),
        trace_id=run.trace_id,
        links={
            "self": path,
            "cancel": f"{path}:cancel",
            "result": f"{path}/result",
            "events": f"{path}/events",
            "receipt": f"{path}/receipt",
        },
    )


def _progress(run: Run) -> ProgressView | None:
    """Return the last that is known; of a run that completed it is all, whatever its pack said."""
    note = "" if run.progress is None else run.progress.note
    if run.status is Status.COMPLETED:
        return ProgressView(1.0, note)
    return None if run.progress is None else ProgressView(run.progress.fraction, note)


def budget_view(budget: Budget) -> BudgetView:
    """Return a budget as the API and the command line show it."""
    return BudgetView(
        show(budget.deposited),
        show(budget.available),
        show(budget.held),
        show(budget.spent),
        USD,
    )


def transfer_view(entry: Entry) -> TransferView:
    """Return a line of the ledger as the API shows it."""
    return TransferView(
        transfer_id=transfer_id(entry.seq),
        seq=entry.seq,
        kind=entry.kind,
        amount_usd=show(entry.amount),
        cost_usd=None if entry.cost is None else show(entry.cost),
        returned_usd=None if entry.returned is None else show(entry.returned),
        run_id=None if entry.run_id is None else str(entry.run_id),
        reference=entry.reference,
        reason=entry.reason,
        created_at=entry.created_at,
    )


def receipt_view(receipt: Receipt) -> ReceiptView:
    """Return a receipt as the API shows it."""
    digest = receipt.result_sha256
    return ReceiptView(
        receipt_version=1,
        run_id=str(receipt.run_id),
        tenant_id=receipt.tenant_id,
        pack_type=receipt.pack_type,
        pack_version=receipt.pack_version,
        status=cast("Any", receipt.status.value),
        attempt=receipt.attempt,
        inputs_sha256=receipt.inputs_sha256.hex(),
        result_sha256=None if digest is None else digest.hex(),
        reserved_usd=show(receipt.reserved),
        cost_usd=show(receipt.cost),
        returned_usd=show(receipt.returned),
        policy=_policy(receipt.policy),
        transfer_ids=TransferNames(
            transfer_id(receipt.reserve_seq), transfer_id(receipt.resolution_seq)
        ),
        created_at=receipt.created_at,
        settled_at=receipt.settled_at,
    )


def quote_view(pack_type: str, quote: Quote, policy: str) -> QuoteView:
    """Return a quote as the API shows it."""
    return QuoteView(
        pack_type=pack_type,
        reserve_usd=show(quote.reserve),
        expected_usd=ExpectedView(show(quote.low), show(quote.high)),
        minimum_fee_usd=show(quote.minimum_fee),
        currency=USD,
        policy=_policy(policy),
        binding=False,
    )


def pack_view(facts: PackFacts, limits: LimitsView) -> PackView:
    """Return a pack as the API shows it."""
    return PackView(
        pack_type=facts.pack_type,
        version=facts.version,
        input_schema=dict(facts.input_schema),
        output_schema=dict(facts.output_schema),
        price=PriceView(facts.price, {name: show(rate) for name, rate in facts.rates.items()}),
        limits=limits,
    )


def usage_view(usage: Usage) -> UsageView:
    """Return the usage of a period as the API shows it."""
    days = [
        UsageDayView(
            day=one.day,
            runs=one.runs,
            completed=one.completed,
            failed=one.failed,
            cost_usd=show(one.cost),
            reserved_usd=show(one.reserved),
        )
        for one in usage.every_day()
    ]
    totals = UsageTotals(
        runs=sum(one.runs for one in usage.days),
        completed=sum(one.completed for one in usage.days),
        failed=sum(one.failed for one in usage.days),
        cost_usd=show(sum(one.cost for one in usage.days)),
        reserved_usd=show(sum(one.reserved for one in usage.days)),
    )
    return UsageView(
        first_day=usage.first, last_day=usage.last, items=days, totals=totals, currency=USD
    )


def transfer_id(seq: int) -> str:
    """Return the name of a line of the ledger: its number is the tenant's own."""
    return f"tr_{seq}"


def key_view(key: Key) -> KeyView:
    """Return a key as its tenant sees it; which operator made it is the operators' own."""
    allowance = key.allowance
    return KeyView(
        key_id=key.key_id,
        scopes=key.scopes,
        created_at=key.created_at,
        created_by=key.created_by if made_by_key(key.created_by) else "operator",
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked=key.revoked,
        ended=key.ended,
        spend_limit_usd=None if allowance is None else show(allowance.limit),
        spent_usd=None if allowance is None else show(allowance.used),
    )


def made_key_view(key: Key, api_key: str) -> MadeKeyView:
    """Return a new key with the one sight of its secret."""
    return MadeKeyView(**asdict(key_view(key), recurse=False), api_key=api_key)


def rotated_key_view(rotated: Rotated, api_key: str) -> RotatedKeyView:
    """Return a new key with the one sight of its secret, and the old one."""
    made = asdict(made_key_view(rotated.new, api_key), recurse=False)
    return RotatedKeyView(**made, replaces=key_view(rotated.old))


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


def encode(view: object) -> bytes:
    """Write a view as JSON."""
    return _ENCODER.encode(view)


def written(view: object) -> msgspec.Raw:
    """Write a part of a large answer, which then costs no more than copying it."""
    return msgspec.Raw(_ENCODER.encode(view))


def _cost(run: Run) -> CostView:
    return CostView(
        show(run.max_cost),
        show(run.held),
        None if run.actual_cost is None else show(run.actual_cost),
        show(run.minimum_fee),
        USD,
        _policy(run.policy),
    )


def error_view(failure: Failure, cost: Micros) -> ErrorView:
    """Return why a run failed, as the API shows it."""
    return ErrorView(failure.code.value, failure.detail, payer(failure.code, cost))


_policy: Final = lru_cache(maxsize=256)(policy_text)  # a few rules, said with every run

_ENCODER: Final = msgspec.json.Encoder()
