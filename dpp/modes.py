"""Modes: what operators ask of all nodes at once, and what one node is told.

A mode stands in PostgreSQL as the last row of a trail; past its expiry it is `normal` again,
without anybody's doing. Intake and claimer read it in their own transactions: none that begins
after the commit of a mode goes against it; one that is under way may end as it began.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from attrs import frozen

RETRY_S: Final = 30  # what a client is told where nobody said how long it will be


class Mode(StrEnum):
    """What the nodes take and do."""

    NORMAL = "normal"
    NO_SUBMIT = "no-submit"  # new submissions are refused, replays answered, runs go on
    DRAIN = "drain"  # nothing is claimed; submissions wait


@frozen(kw_only=True)
class NewMode:
    """What an operator asks; `change_id` makes it once, however often it is sent."""

    change_id: UUID
    mode: Mode
    reason: str
    operator: str
    expires_in_s: int | None


@frozen(kw_only=True)
class ModeChange:
    """One line of the trail."""

    mode: Mode
    reason: str
    operator: str
    set_at: datetime
    expires_at: datetime | None


@frozen
class Orders:
    """What one node is told: the mode of all, and whether this one shall drain."""

    mode: Mode = Mode.NORMAL
    drain: bool = False


@frozen
class InForce:
    """The mode at a moment; `left_s`: until it expires, None = it does not."""

    mode: Mode = Mode.NORMAL
    left_s: float | None = None
