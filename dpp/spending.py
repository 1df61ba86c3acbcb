"""Spending: what a tenant's day and month have taken, what an allowance has, and whether more fits.

A reserve counts as spent at once, for the UTC day on which it was admitted; what its resolution
returns is counted back on that same day, whenever it comes. So a cap holds for what was reserved,
and what is left of it at the end of a day is what the day really cost. An *allowance* is the spend
limit of an API key, shared by all keys that were made with it. Pure: decided under the budget lock.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, TypeAlias

from attrs import evolve, frozen

from dpp.money import ZERO, Micros
from dpp.plans import Plan

Limit: TypeAlias = Literal["day", "month", "key"]
NEVER: Final = date(1970, 1, 1)  # before the first reserve


@frozen
class Spending:
    """The counters of a budget row: of its last day with a reserve, and of that day's month."""

    day: date = NEVER
    day_spend: Micros = ZERO
    month_spend: Micros = ZERO

    def on(self, today: date) -> "Spending":
        """Return the counters as they stand today; a clock that goes back opens no day again."""
        if today <= self.day:
            return self
        same_month = (today.year, today.month) == (self.day.year, self.day.month)
        return Spending(today, ZERO, self.month_spend if same_month else ZERO)

    def plus(self, amount: Micros) -> "Spending":
        """Return the counters after a reserve on their day."""
        return Spending(
            self.day, Micros(self.day_spend + amount), Micros(self.month_spend + amount)
        )


@frozen
class Allowance:
    """What a key, and those made with it, may spend in all."""

    allowance_id: str
    limit: Micros
    used: Micros

    def plus(self, amount: Micros) -> "Allowance":
        """Return it after a reserve."""
        assert self.used + amount <= self.limit
        return evolve(self, used=Micros(self.used + amount))


@frozen
class SpendLimited:
    """A cap on spending is reached; `resets_at`: when it counts anew, None = it does not."""

    limit: Limit
    cap: Micros
    resets_at: datetime | None


def over(
    amount: Micros, plan: Plan, spending: Spending, allowance: Allowance | None
) -> SpendLimited | None:
    """Say which cap a reserve of this amount would break: the day's, the month's, or the key's."""
    day, month = plan.spend_per_day, plan.spend_per_month
    if day is not None and spending.day_spend + amount > day:
        return SpendLimited("day", day, midnight(spending.day + timedelta(days=1)))
    if month is not None and spending.month_spend + amount > month:
        return SpendLimited("month", month, midnight(next_month(spending.day)))
    if allowance is not None and allowance.used + amount > allowance.limit:
        return SpendLimited("key", allowance.limit, None)
    return None


def midnight(day: date) -> datetime:
    """Return the moment when a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def next_month(day: date) -> date:
    """Return the first day of the month after this day's."""
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
