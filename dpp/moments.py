"""Moments: RFC 3339 times as clients write them, always with their offset from UTC."""

import re
from datetime import UTC, datetime
from typing import Final

PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)
_MOMENT: Final = re.compile(PATTERN[1:-1])


def parse(text: str) -> datetime | None:
    """Return the moment in UTC, cut to microseconds; None = the text is none."""
    if _MOMENT.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):  # month 13, second 60, an hour before the year 1
        return None
