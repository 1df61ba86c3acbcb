"""Usage: what a tenant's ended runs were and cost, by the UTC day on which they ended.

A day is the fold of its endings. Refunds change no day: they are lines of the ledger.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

from attrs import frozen

from dpp.money import ZERO, Micros

DAYS_MAX: Final = 366  # a year, whichever
DAYS: Final = 30  # where nobody says more


@frozen(kw_only=True)
class UsageDay:
    """One day: `runs` are endings of every kind, `reserved` what they had reserved."""

    day: date
    runs: int = 0
    completed: int = 0
    failed: int = 0
    cost: Micros = ZERO
    reserved: Micros = ZERO


@frozen
class Usage:
    """The days of a period that have any runs, in order; `first` and `last` are its ends."""

    first: date
    last: date
    days: tuple[UsageDay, ...]

    @property
    def span(self) -> int:
        """Return how many days the period has, none where it ends before it begins."""
        return max((self.last - self.first).days + 1, 0)

    def every_day(self) -> Iterator[UsageDay]:
        """Yield every day of the period: one without runs is all zeros."""
        by_day = {one.day: one for one in self.days}
        for offset in range(self.span):
            day = self.first + timedelta(days=offset)
            yield by_day.get(day) or UsageDay(day=day)
