"""Claims: what a claimer asks for and gets, and how others see runs that somebody holds.

Within a tenant the lower priority number goes first, but a run rises by one for each `AGED_S` that
it waited, so nothing waits for ever. Among tenants a claim is divided by their plans' weights.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from attrs import frozen

from dpp.leases import Fence, NodeLease
from dpp.money import Micros

# Of inputs: no claim takes another run once it has that many. So its answer comes within the wall
# clock of a question, and before a renewal finds runs that this node does not know yet.
CLAIM_BYTES: Final = 4 * 2**20
AGED_S: Final = 60  # of waiting make up for one priority: from 9 to 0 in nine minutes


@frozen
class Turn:
    """A tenant to claim from, at most `share` runs; the store looks up its plan's cap.

    `lows`: one `available_at` bound a priority, ten or none; None = no bound. A bound spares dead
    rows: nothing below it is claimed.
    """

    tenant_id: str
    share: int
    lows: tuple[datetime | None, ...] = ()


@frozen(kw_only=True)
class Claim:
    """What a claimer asks for: each turn's share, of these packs."""

    lease: NodeLease
    turns: tuple[Turn, ...]
    packs: tuple[str, ...]


@frozen(kw_only=True)
class Claimed:
    """An attempt that is ours: its fence, its run, what executing it needs, its plan's weight."""

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
    weight: int


def shares(weights: Sequence[int], runs: int) -> list[int]:
    """Divide a claim of `runs` by weight, one for each at least; the odd ones go to the first."""
    assert len(weights) <= runs
    if not weights:
        return []
    whole = sum(weights)
    parts = [max(1, runs * weight // whole) for weight in weights]
    while sum(parts) > runs:  # what the light ones got beyond theirs
        parts[parts.index(max(parts))] -= 1
    for place in range(runs - sum(parts)):
        parts[place] += 1
    return parts


def in_turn(dues: Sequence[int], runs: int) -> list[int]:
    """Divide a claim too small for all: each has what it is due, the first ones first."""
    parts = []
    for due in dues:
        parts.append(min(due, runs))
        runs -= parts[-1]
    return parts


def served_at(priority: int, available_at: datetime) -> datetime:
    """Return by what a run of one tenant is ordered: a priority less is worth `AGED_S` of age."""
    return available_at + timedelta(seconds=AGED_S * priority)


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
