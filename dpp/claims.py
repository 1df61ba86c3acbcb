"""Claims: what a claimer asks for and gets, and how others see runs that somebody holds."""

from datetime import datetime
from uuid import UUID

from attrs import frozen

from dpp.leases import Fence, NodeLease
from dpp.money import Micros


@frozen
class Turn:
    """A tenant to claim from; the store looks up its plan's cap.

    `lows`: one `available_at` bound a priority, ten or none; None = no bound. A bound spares dead
    rows: nothing below it is claimed.
    """

    tenant_id: str
    lows: tuple[datetime | None, ...] = ()


@frozen(kw_only=True)
class Claim:
    """What a claimer asks for: at most `limit` runs, `per_tenant` of each, of these packs."""

    lease: NodeLease
    turns: tuple[Turn, ...]
    per_tenant: int
    limit: int
    packs: tuple[str, ...]


@frozen(kw_only=True)
class Claimed:
    """An attempt that is ours: its fence, its run, and what executing it needs."""

    fence: Fence
    tenant_id: str
    pack_type: str
    inputs: bytes
    max_cost: Micros
    minimum_fee: Micros
    timebox_s: int
    priority: int
    available_at: datetime
    attempt: int
    trace_id: str
    created_at: datetime


@frozen
class Seen:
    """A live row as an unlocked scan saw it; a take-back names it in its WHERE."""

    run_id: UUID
    tenant_id: str
    lease_id: UUID | None
    lease_epoch: int


@frozen(kw_only=True)
class LeftStoring:
    """A run that was left while its result was stored; `created_at` is part of the object's key."""

    seen: Seen
    max_cost: Micros
    created_at: datetime
