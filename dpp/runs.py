"""The states of a run, as data, and what a client sees of one.

A run is two immutable facts and one hot row between them. The *submission* says what was bought
and reserves the money; the *live row* is there exactly while the run waits or works; the *ending*
says what came of it and resolves the reserve. There is no status column: the status is read off
these three in one statement.

    (submission) ──▶ QUEUED ──Claimed──▶ PROCESSING ──Settled──▶ COMPLETED | FAILED
                       │  ▲                  │  │
                       │  └──── Requeued ────┘  └──CancelHonoured──▶ CANCELED
                       ├──CancelAsked──▶ CANCELED
                       ├──QueueTtlPassed──▶ EXPIRED        (only a run that was never started)
                       └──AttemptsUsedUp──▶ FAILED          (free)

A live row without a lease is QUEUED, with one PROCESSING. Whoever writes an ending deletes the
live row in the same statement, so a run cannot be live and ended, nor neither. Every pair (status,
event) that the table below does not name is refused and changes nothing.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final, Literal, TypeAlias
from uuid import UUID

from attrs import frozen

from dpp.money import Micros


class Status(StrEnum):
    """The public statuses; the same words in SQL."""

    QUEUED = "QUEUED"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"


class Event(StrEnum):
    """Things that happen to a run."""

    CLAIMED = "claimed"
    REQUEUED = "requeued"  # handed back, or taken back with attempts left
    COMPLETED = "completed"
    FAILED = "failed"
    CANCEL_ASKED = "cancel_asked"  # of a QUEUED run; of a PROCESSING one it is only noted
    CANCEL_HONOURED = "cancel_honoured"
    QUEUE_TTL_PASSED = "queue_ttl_passed"
    ATTEMPTS_USED_UP = "attempts_used_up"


TRANSITIONS: Final[dict[Status, dict[Event, Status]]] = {
    Status.QUEUED: {
        Event.CLAIMED: Status.PROCESSING,
        Event.CANCEL_ASKED: Status.CANCELED,
        Event.QUEUE_TTL_PASSED: Status.EXPIRED,
    },
    Status.PROCESSING: {
        Event.REQUEUED: Status.QUEUED,
        Event.COMPLETED: Status.COMPLETED,
        Event.FAILED: Status.FAILED,
        Event.CANCEL_HONOURED: Status.CANCELED,
        Event.ATTEMPTS_USED_UP: Status.FAILED,
    },
    Status.COMPLETED: {},
    Status.FAILED: {},
    Status.CANCELED: {},
    Status.EXPIRED: {},
}

TERMINAL: Final = frozenset(status for status, events in TRANSITIONS.items() if not events)


class Refused(ValueError):
    """The event does not happen to a run in this status."""


def advance(status: Status, event: Event) -> Status:
    """Return the status after `event`; a pair that the table does not name raises `Refused`."""
    after = TRANSITIONS[status].get(event)
    if after is None:
        message = f"{event} does not happen to a {status} run"
        raise Refused(message)
    return after


class ErrorCode(StrEnum):
    """Why a run did not complete; each says who pays."""

    PACK_REFUSED = "pack_refused"
    PACK_ERROR = "pack_error"
    TIMEBOX = "timebox"
    COST_CEILING = "cost_ceiling"
    RESULT_TOO_LARGE = "result_too_large"
    LOST_LEASE = "lost_lease"
    STORE_UNAVAILABLE = "store_unavailable"
    INFRASTRUCTURE = "infrastructure"
    RESOLVED_BY_OPERATOR = "resolved_by_operator"


PAID_BY_TENANT: Final = frozenset({
    ErrorCode.PACK_REFUSED,
    ErrorCode.PACK_ERROR,
    ErrorCode.TIMEBOX,
    ErrorCode.COST_CEILING,
    ErrorCode.RESULT_TOO_LARGE,
})  # fmt: skip


Payer: TypeAlias = Literal["tenant", "platform"]


def payer(code: ErrorCode, cost: Micros) -> Payer:
    """Return who pays for a failure. An operator decides by the cost."""
    by_tenant = code in PAID_BY_TENANT or (code is ErrorCode.RESOLVED_BY_OPERATOR and cost > 0)
    return "tenant" if by_tenant else "platform"


@frozen
class Failure:
    """Why a run failed: a code and a sentence for the client."""

    code: ErrorCode
    detail: str


@frozen
class Progress:
    """How far a pack says it is: 0 … 1 and a note."""

    fraction: float
    note: str


@frozen
class StoredResult:
    """A result too large for its ending: the key of its object in a blob store, and its digest."""

    key: str
    sha256: bytes


@frozen(kw_only=True)
class Run:
    """A run as its tenant sees it, read in one statement over submission, live row and ending."""

    run_id: UUID
    tenant_id: str
    status: Status
    pack_type: str
    idempotency_key: str
    attempt: int
    lease_epoch: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime
    max_cost: Micros
    minimum_fee: Micros
    actual_cost: Micros | None
    policy: str
    priority: int
    timebox_s: int
    cancel_asked: bool
    trace_id: str
    progress: Progress | None
    result: bytes | None
    result_key: str | None
    result_sha256: bytes | None
    failure: Failure | None
    metadata: bytes | None = None  # canonical JSON
    result_expires_at: datetime | None = None

    @property
    def held(self) -> Micros:
        """Return what the run still reserves."""
        return Micros(0) if self.status in TERMINAL else self.max_cost
