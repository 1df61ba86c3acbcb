"""Moments: RFC 3339 times as clients write them, always with their offset from UTC."""

import re
from datetime import UTC, datetime
from typing import Final

PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
# The driver takes the very first and last moment that Python has for infinities.
FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)
_MOMENT: Final = re.compile(PATTERN[1:-1])


def parse(text: str) -> datetime | None:
    """Return the moment in UTC, cut to microseconds; None = the text is none."""
    if _MOMENT.fullmatch(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # month 13, second 60, an hour before the year 1
        return None
    return min(max(moment, FIRST), LAST)
