"""What the API answers, as frozen values. Members that a later server adds are ignored.

Money is `decimal.Decimal`, exact to the last digit that was sent, and is read from strings alone: a
JSON number would have been a float. Times are datetimes with their zone. `document` is the whole
answer as it came, for who wants to print it, or a member that has no field here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Generic, Self, TypeVar

import cattrs
from attrs import field, frozen

from dpp.client.faults import ClientError
from dpp.client.sse import ServerEvent
from dpp.runs import TERMINAL

T = TypeVar("T")


class Malformed(ValueError):
    """A document is not what it should be."""


@frozen(kw_only=True)
class Answer:
    """The base of all answers."""

    document: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Structure a document; raises `Malformed`."""
        try:
            return _converter.structure({**document, "document": document}, cls)
        except (cattrs.BaseValidationError, TypeError, ValueError) as error:
            raise Malformed(f"which is no {cls.__name__}") from error


@frozen
class Page(Generic[T]):
    """One page of a list; `next_cursor` asks for the next."""

    items: tuple[T, ...]
    next_cursor: str | None


@frozen(kw_only=True)
class Cost:
    """What a run may cost, holds, and did cost (None until it ended)."""

    max_usd: Decimal
    held_usd: Decimal
    actual_usd: Decimal | None = None
    minimum_fee_usd: Decimal = Decimal("0.00")
    currency: str = "USD"
    policy: str = ""


@frozen(kw_only=True)
class Progress:
    """How far the pack says it is, from 0 to 1."""

    fraction: float
    note: str | None = None


@frozen(kw_only=True)
class RunError:
    """Why a run did not complete, and who pays: "tenant" or "platform"."""

    code: str
    detail: str = ""
    payer: str = ""


@frozen(kw_only=True)
class Run(Answer):
    """A run as it was when it was asked for.

    `result` holds small results; `Client.result` gets any. `expires_at`: when it expires if it was
    never started. `result_expires_at`: until when its result is kept.
    """

    run_id: str
    status: str  # one of `dpp.runs.Status`, or a word of a later server
    pack_type: str
    idempotency_key: str
    attempt: int
    cost: Cost
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    result_expires_at: datetime | None = None
    progress: Progress | None = None
    metadata: Mapping[str, str] = field(factory=dict)
    result: Any = None
    result_sha256: str | None = None
    error: RunError | None = None
    trace_id: str = ""

    @property
    def ended(self) -> bool:
        """Say whether the status is final."""
        return self.status in TERMINAL


@frozen(kw_only=True)
class BatchItem:
    """The answer to one submission of a batch: a run, or why there is none.

    `error` is an `ApiProblem`, or what kept the whole batch from an answer: then the run may exist,
    and the same submission under `idempotency_key` tells.
    """

    idempotency_key: str
    run: Run | None = None
    replayed: bool = False  # the run had been submitted before
    error: ClientError | None = None

    def get(self) -> Run:
        """Return the run, or raise why there is none."""
        if self.run is None:
            assert self.error is not None
            raise self.error
        return self.run


@frozen(kw_only=True)
class RunEvent:
    """Something that happened to a run: `kind` is "status", "progress" or "charge".

    `event_id` is opaque; a stream that is opened with it goes on behind it.
    """

    event_id: str
    kind: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, said: ServerEvent) -> Self:
        """Read what the server sent; raises `Malformed`."""
        try:
            data = json.loads(said.data)
        except ValueError as error:
            raise Malformed("an event that is not JSON") from error
        if not isinstance(data, dict):
            raise Malformed("an event that is not a JSON object")
        return cls(event_id=said.event_id, kind=said.kind, data=data)

    @property
    def status(self) -> str | None:
        """Return the run's status, if this event is about it."""
        return str(self.data["status"]) if self.kind == "status" and "status" in self.data else None

    @property
    def last(self) -> bool:
        """Say whether nothing follows: the run has ended."""
        return self.status in TERMINAL

    def usd(self, member: str) -> Decimal | None:
        """Return a member of the data as money."""
        value = self.data.get(member)
        return None if value is None else _decimal(value, Decimal)


@frozen(kw_only=True)
class Result:
    """The result of a run, its digest verified."""

    content: bytes = field(repr=False)
    sha256: str
    media_type: str = "application/json"

    def json(self) -> Any:  # noqa: ANN401 - what a pack returns
        """Return the content, read as JSON."""
        return json.loads(self.content)


@frozen(kw_only=True)
class Saved:
    """A result that was written to a file, its digest verified."""

    size_bytes: int
    sha256: str
    media_type: str = "application/json"


@frozen(kw_only=True)
class TransferIds:
    """The two transfers that a receipt is about."""

    reserve: str
    resolution: str


@frozen(kw_only=True)
class Receipt(Answer):
    """What a run cost, once it is settled; for a run that cost nothing too."""

    run_id: str
    tenant_id: str
    pack_type: str
    status: str
    reserved_usd: Decimal
    cost_usd: Decimal
    returned_usd: Decimal
    transfer_ids: TransferIds
    created_at: datetime
    settled_at: datetime
    receipt_version: int = 1
    pack_version: str | None = None
    attempt: int = 0
    inputs_sha256: str | None = None
    result_sha256: str | None = None
    policy: str = ""


@frozen(kw_only=True)
class Range:
    """From the least to the most."""

    low: Decimal
    high: Decimal


@frozen(kw_only=True)
class Quote(Answer):
    """What a submission would reserve and may cost; nothing is reserved by asking."""

    pack_type: str
    reserve_usd: Decimal
    minimum_fee_usd: Decimal
    expected_usd: Range | None = None
    policy: str = ""
    binding: bool = False


@frozen(kw_only=True)
class Pack:
    """A kind of run: JSON Schemas of what goes in and comes out, its price and limits."""

    pack_type: str
    version: str = ""
    input_schema: Mapping[str, Any] = field(factory=dict)
    output_schema: Mapping[str, Any] = field(factory=dict)
    price: Mapping[str, Any] = field(factory=dict)
    limits: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Packs(Answer):
    """The packs that the tenant may use."""

    items: tuple[Pack, ...]


@frozen(kw_only=True)
class Budget(Answer):
    """A tenant's money: deposited = available + held + spent."""

    deposited_usd: Decimal
    available_usd: Decimal
    held_usd: Decimal
    spent_usd: Decimal
    currency: str = "USD"


@frozen(kw_only=True)
class Transfer(Answer):
    """One line of the ledger."""

    seq: int
    kind: str
    amount_usd: Decimal
    created_at: datetime
    transfer_id: str = ""
    cost_usd: Decimal | None = None
    returned_usd: Decimal | None = None
    run_id: str | None = None
    reference: str | None = None
    reason: str | None = None


@frozen(kw_only=True)
class UsageDay:
    """What ended on a UTC day, and what it cost."""

    day: date
    runs: int
    completed: int
    failed: int
    cost_usd: Decimal
    reserved_usd: Decimal


@frozen(kw_only=True)
class UsageTotals:
    """The sums of the days."""

    runs: int
    completed: int
    failed: int
    cost_usd: Decimal
    reserved_usd: Decimal


@frozen(kw_only=True)
class Usage(Answer):
    """Every day of a period, oldest first, and the sums."""

    items: tuple[UsageDay, ...]
    totals: UsageTotals
    first_day: date
    last_day: date


@frozen(kw_only=True)
class Webhook(Answer):
    """Where events are sent. The secret is in the answers to creation and rotation alone."""

    webhook_id: str
    url: str
    events: tuple[str, ...]
    status: str
    created_at: datetime
    disabled_reason: str | None = None
    previous_secret_until: datetime | None = None  # the secret before this one signs, too
    secret: str | None = field(default=None, repr=False)


@frozen(kw_only=True)
class Delivery(Answer):
    """One event on its way to a webhook, and how often it was tried."""

    delivery_id: str
    event: str
    attempts: int
    status: str
    run_id: str | None = None
    response_status: int | None = None
    error: str | None = None
    created_at: datetime | None = None
    next_at: datetime | None = None  # None = there is no other try


@frozen(kw_only=True)
class WebhookEvent(Answer):
    """What a webhook says, once its signature is verified; `event_id` is the same at each try."""

    event_id: str
    type: str
    timestamp: datetime
    data: Mapping[str, Any] = field(factory=dict)

    @property
    def run_id(self) -> str | None:
        """Return the run that it is about, if it is about one."""
        run_id = self.data.get("run_id")
        return None if run_id is None else str(run_id)


@frozen(kw_only=True)
class Key(Answer):
    """An API key. `api_key`, the secret, is in the answers to creation and rotation alone."""

    key_id: str
    scopes: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    created_by: str = ""
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked: bool = False
    spend_limit_usd: Decimal | None = None
    spent_usd: Decimal | None = None


def _datetime(text: object, _: type[datetime]) -> datetime:
    time = datetime.fromisoformat(text) if isinstance(text, str) else None
    if time is None or time.tzinfo is None:
        raise ValueError(text)
    return time


def _date(text: object, _: type[date]) -> date:
    return date.fromisoformat(str(text))


def _decimal(text: object, _: type[Decimal]) -> Decimal:
    if not isinstance(text, str):
        raise TypeError(text)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None
    if not amount.is_finite():
        raise ValueError(text)
    return amount


_converter = cattrs.Converter()
_converter.register_structure_hook(datetime, _datetime)
_converter.register_structure_hook(date, _date)
_converter.register_structure_hook(Decimal, _decimal)
