from __future__ import annotations

from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock

from dpp.actors.clock import DatabaseClock
from dpp.faults import StoreUnavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOW_MS = 1_767_225_600_000


async def test_it_counts_on_from_what_it_learned(autojump_clock: MockClock) -> None:
    clock = DatabaseClock()
    clock.learn(NOW)

    await trio.sleep(1.5)

    assert clock.unix_ms() == NOW_MS + 1_500


async def test_it_knows_nothing_before(autojump_clock: MockClock) -> None:
    with pytest.raises(StoreUnavailable):
        DatabaseClock().unix_ms()


async def test_what_it_learns_last_counts(autojump_clock: MockClock) -> None:
    clock = DatabaseClock()
    clock.learn(NOW)
    await trio.sleep(10)

    clock.learn(NOW)

    assert clock.unix_ms() == NOW_MS
