"""Ids that this node makes: UUIDv7, ordered by the database's time.

The time comes in as an argument (the database's, learned with the last renewal and counted on by
the caller); the random bits come in too. Within a millisecond a counter keeps the order in which
one node made them.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COUNTER_BITS = 12  # `rand_a` of RFC 9562: 4,096 ids a millisecond before the clock is pushed on
RANDOM_BITS = 62


def uuid7(unix_ms: int, counter: int, random_bits: int) -> UUID:
    """Build the UUIDv7 of this millisecond: RFC 9562, 5.7, with `rand_a` as a counter."""
    assert 0 <= counter < 1 << COUNTER_BITS
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62
    return UUID(int=value | random_bits & (1 << RANDOM_BITS) - 1)


def made_at(run_id: UUID) -> datetime:
    """Return the time in an id, to the millisecond: the database's, as its node reckoned it."""
    return EPOCH + timedelta(milliseconds=run_id.int >> 80)


class RunIds:
    """Makes run ids that never go back, even when the time it is given does."""

    def __init__(self, unix_ms: Callable[[], int], random_bits: Callable[[int], int]) -> None:
        """`unix_ms`: the database's time, as this node reckons it. `random_bits(n)`: n bits."""
        self._unix_ms = unix_ms
        self._random_bits = random_bits
        self._last_ms = 0
        self._counter = 0

    def next(self) -> UUID:
        """Return an id greater than every one before it."""
        now_ms = self._unix_ms()
        if now_ms > self._last_ms:
            self._last_ms, self._counter = now_ms, 0
        else:
            self._counter += 1
            if self._counter >> COUNTER_BITS:
                self._last_ms, self._counter = self._last_ms + 1, 0
        return uuid7(self._last_ms, self._counter, self._random_bits(RANDOM_BITS))
