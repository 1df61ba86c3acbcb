"""Leases: a node's right to work on runs, and the proof that every write for an attempt carries.

The right is a *row*: a random lease id and a `lease_until` by the database's clock. A claim stamps
a run with that id and raises its epoch by one; together they are the *fence* of the attempt, and
stand in the WHERE of every later write for it. Whoever finds no row with that fence has lost the
run, and has written nothing.

The process itself trusts only a *deadline*. It is counted on the monotonic clock from before a
renewal was asked, and ends `MARGIN_S` before the row does:

    asked_at        answered               trusted_until    lease_until (the row)
    ───┬───────────────┬────────────────────────┬─────────────────┬────▶
       └──────────── lease_s - MARGIN_S ────────┘                 │
       └──────────── at most lease_s later, by the database ──────┘

So a node lets go before anybody may take over, however long the answer took, and a clock that is
wrong only makes takeover later. The database is trusted for time and for who holds what; the
process for nothing but its own deadline.

A run goes back without a spent attempt only when nobody's code can be to blame: an orderly drain,
or a renewal that was asked on time and that the store did not answer. Everything else spends an
attempt, so that a run that crashes its node ends after `attempts_max` of them.
"""

from datetime import datetime
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from attrs import field, frozen

from dpp.neighbours import Neighbour, Offer
from dpp.runs import ErrorCode, Failure

MARGIN_S = 1.0  # between letting go and the end of the row: covers a slow scheduler on our side
MARGIN_SHARE = 0.2  # of short leases (tests, failover drills) the margin is this share instead


@frozen
class NodeLease:
    """One tenure of one node.

    The id is random, so that a dead tenure stays dead whoever has its node id. `offer` digests
    what the node sells, for its neighbours.
    """

    lease_id: UUID
    node_id: str
    offer: Offer = field(factory=Offer, eq=False)


@frozen
class Fence:
    """What every write for an attempt names in its WHERE."""

    run_id: UUID
    lease_id: UUID
    lease_epoch: int


def trusted_until(asked_at: float, lease_s: float) -> float:
    """Return until when, on the monotonic clock, a lease asked for at `asked_at` is trusted."""
    return asked_at + lease_s - margin(lease_s)


def margin(lease_s: float) -> float:
    """Return how long before the end of its row a lease is let go, in seconds."""
    return min(MARGIN_S, MARGIN_SHARE * lease_s)


class Lapse(StrEnum):
    """How an attempt was lost."""

    HANDED_BACK = "handed_back"  # a drain, or an outage of the store: no attempt is spent
    LOST = (
        "lost"  # the node died or stalled, or a pack's infrastructure failed: an attempt is spent
    )


@frozen
class Requeue:
    """The run waits again; `spent` is added to its spent attempts."""

    spent: int


@frozen
class EndFree:
    """The run ends FAILED at no cost: its attempts are used up."""

    failure: Failure


@frozen
class EndCanceled:
    """The run ends CANCELED at no cost: a cancel was asked for and nobody works on it any more."""


TakeBack: TypeAlias = Requeue | EndFree | EndCanceled


def after_lapse(
    lapse: Lapse, *, cancel_asked: bool, attempts_spent: int, attempts_max: int
) -> TakeBack:
    """Decide what becomes of a run whose attempt was lost."""
    assert attempts_spent >= 0
    if cancel_asked:
        return EndCanceled()
    if lapse is Lapse.HANDED_BACK:
        return Requeue(spent=0)
    if attempts_spent + 1 >= attempts_max:
        detail = f"the platform lost {attempts_max} attempts at this run; nothing is charged"
        return EndFree(Failure(ErrorCode.LOST_LEASE, detail))
    return Requeue(spent=1)


@frozen
class Renewal:
    """`held`: the lease row was there and alive.

    `fences`: every live row stamped with it. `now`: the database's. `neighbours`: all that live,
    the asker among them.
    """

    held: bool
    now: datetime
    fences: tuple[Fence, ...]
    neighbours: tuple[Neighbour, ...] = field(default=(), kw_only=True)


@frozen
class LeaseGone:
    """The lease has lapsed or was ended: nothing was claimed, nothing ever will be under it."""


@frozen
class Node:
    """A living node, by its lease row."""

    node_id: str
    lease_id: UUID
    lease_until: datetime
