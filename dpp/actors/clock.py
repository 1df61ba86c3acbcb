"""The database's time, as this node reckons it between two renewals.

What is stored or expires is stamped and judged by PostgreSQL alone. Ids that are ordered by time
are the exception: they take the time learned with the last renewal, counted on by trio's clock.
"""

from datetime import UTC, datetime

import trio

from dpp.faults import StoreUnavailable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DatabaseClock:
    """Learns from the tenure; asked by who makes run ids."""

    def __init__(self) -> None:
        self._ahead_s: float | None = None  # of trio's clock

    def learn(self, now: datetime) -> None:
        """Take in what the database said just now: we are behind it, never ahead."""
        self._ahead_s = (now - EPOCH).total_seconds() - trio.current_time()

    def unix_ms(self) -> int:
        """Return the time in milliseconds since 1970; `StoreUnavailable` until it was learned."""
        if self._ahead_s is None:
            raise StoreUnavailable("the database's time is not known yet")
        return int((trio.current_time() + self._ahead_s) * 1000)
