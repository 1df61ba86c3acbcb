"""Membership: which nodes there are, what each says of itself, and what operators ask of one.

A lease row says that a node lives; the row of the node outlives it and says how it left. A node
that is asked to drain claims nothing more, gives its runs `drain_s`, hands back the rest free, and
then waits, without a lease, until it is asked to go on.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from attrs import field, frozen

# Of a node that lives: it reports every 10 s, whether it has a lease or not.
SILENT: Final = timedelta(seconds=25)


class NodeState(StrEnum):
    """How a node stands."""

    WORKING = "working"
    DRAINING = "draining"  # asked to drain, and its runs are not all over
    DRAINED = "drained"  # asked to drain, and done: it works no more until `undrain`
    LEFT = "left"  # it ended in order
    DEAD = "dead"  # its lease lapsed, and nobody has heard of it since


@frozen(kw_only=True)
class Report:
    """What a node says of itself. `loops`: seconds since each last did its work; None = never."""

    node_id: str
    host: str  # its machine's name
    version: str
    runs: int
    concurrency: int
    loops: Mapping[str, float | None]


@frozen(kw_only=True)
class Drain:
    """Who asked a node to drain, and why."""

    asked_at: datetime
    operator: str
    reason: str


@frozen(kw_only=True)
class Member:
    """A node as its rows tell it at `now`. `lease_until` is that of a lease that lives."""

    node_id: str
    now: datetime
    last_heartbeat: datetime
    lease_until: datetime | None
    left_at: datetime | None
    drain: Drain | None
    report: Report | None
    reported_at: datetime | None = field(default=None)

    @property
    def state(self) -> NodeState:
        """Judge the rows."""
        if self.lease_until is not None:
            return NodeState.WORKING if self.drain is None else NodeState.DRAINING
        if self.drain is not None and (self.left_at is not None or self._rests):
            return NodeState.DRAINED
        return NodeState.DEAD if self.left_at is None else NodeState.LEFT

    @property
    def _rests(self) -> bool:
        """Say whether it lives without a lease: as one that was killed while it drained."""
        if self.reported_at is None:
            return False
        after = self.reported_at - self.last_heartbeat
        return after > SILENT and self.now - self.reported_at < SILENT
