"""What may happen to one question on its way to the store and back, drawn from a seed.

A question is slow, lost before it did anything, or lost after: then it took effect and nobody was
told. `LATE` is the worst of these: the error comes first and the effect later, as where a COMMIT
was sent over a connection that was then given up. Its transaction keeps its rows locked meanwhile.
"""

from __future__ import annotations

from enum import Enum, auto
from random import Random

from attrs import define, frozen

LATE_S = (0.05, 4.0)  # under the idle limit of 5 s, after which the server ends what is open
SLOW_S = (0.001, 0.3)
CRAWL_S = (0.3, 5.0)
CRAWLS = 0.05  # of the slow ones
WRITES = frozenset({
    "cancel_run",
    "claim_runs",
    "end_earlier_leases",
    "end_lease",
    "end_runs",
    "expire_runs",
    "hand_back_runs",
    "mark_storing",
    "open_finding",
    "post_transfer",
    "quarantine_run",
    "reap_lease",
    "renew_lease",
    "submit_runs",
    "take_back",
    "take_lease",
})  # fmt: skip


class Loss(Enum):
    """Where an answer is lost."""

    NONE = auto()
    BEFORE = auto()
    AFTER = auto()
    LATE = auto()


@frozen
class Fate:
    """What happens to one question; times in virtual seconds."""

    loss: Loss = Loss.NONE
    before_s: float = 0.0
    after_s: float = 0.0
    late_s: float = 0.0


FINE = Fate()


@define(eq=False, kw_only=True)
class Weather:
    """Shares of questions, by what happens to them; `clear` when all is to be well."""

    dice: Random
    slow: float = 0.0
    before: float = 0.0
    after: float = 0.0
    late: float = 0.0

    def clear(self) -> None:
        """Let every question arrive, at once."""
        self.slow = self.before = self.after = self.late = 0.0

    @property
    def is_clear(self) -> bool:
        return not (self.slow or self.before or self.after or self.late)

    def fate(self, verb: str) -> Fate:
        """Draw what happens to the next question."""
        if self.is_clear:
            return FINE
        loss, late_s = Loss.NONE, 0.0
        lot = self.dice.random()
        if lot < self.before:
            loss = Loss.BEFORE
        elif lot < self.before + self.after:
            loss = Loss.AFTER
        elif lot < self.before + self.after + self.late and verb in WRITES:
            loss, late_s = Loss.LATE, self.dice.uniform(*LATE_S)
        if self.dice.random() >= self.slow:
            return FINE if loss is Loss.NONE else Fate(loss, late_s=late_s)
        return Fate(loss, self._time_s(), self._time_s(), late_s)

    def _time_s(self) -> float:
        return self.dice.uniform(*(CRAWL_S if self.dice.random() < CRAWLS else SLOW_S))
