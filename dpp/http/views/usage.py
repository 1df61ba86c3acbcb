"""Usage, as it goes out."""

from datetime import date
from typing import Literal

from attrs import frozen

from dpp.http.views.encoding import USD
from dpp.money import show
from dpp.usage import Usage


@frozen(kw_only=True, slots=False)
class UsageDayView:
    """What ended on a UTC day, and what it cost."""

    day: date
    runs: int
    completed: int
    failed: int
    cost_usd: str
    reserved_usd: str


@frozen(kw_only=True, slots=False)
class UsageTotals:
    """The sums of the days."""

    runs: int
    completed: int
    failed: int
    cost_usd: str
    reserved_usd: str


@frozen(kw_only=True, slots=False)
class UsageView:
    """Every UTC day of a period, oldest first, and the sums."""

    first_day: date
    last_day: date
    items: list[UsageDayView]
    totals: UsageTotals
    currency: Literal["USD"]


def usage_view(usage: Usage) -> UsageView:
    """Return the usage of a period as the API shows it."""
    days = [
        UsageDayView(
            day=one.day,
            runs=one.runs,
            completed=one.completed,
            failed=one.failed,
            cost_usd=show(one.cost),
            reserved_usd=show(one.reserved),
        )
        for one in usage.every_day()
    ]
    totals = UsageTotals(
        runs=sum(one.runs for one in usage.days),
        completed=sum(one.completed for one in usage.days),
        failed=sum(one.failed for one in usage.days),
        cost_usd=show(sum(one.cost for one in usage.days)),
        reserved_usd=show(sum(one.reserved for one in usage.days)),
    )
    return UsageView(
        first_day=usage.first, last_day=usage.last, items=days, totals=totals, currency=USD
    )
