"""Ids: UUIDv7, in the order in which a node made them."""

from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.ids import COUNTER_BITS, RunIds, made_at, uuid7

times = st.integers(min_value=0, max_value=(1 << 48) - 1)
counters = st.integers(min_value=0, max_value=(1 << COUNTER_BITS) - 1)
randoms = st.integers(min_value=0, max_value=(1 << 62) - 1)


class Clock:
    """Ticks as it is told."""

    def __init__(self, *ticks: int) -> None:
        self.ticks = list(ticks)

    def __call__(self) -> int:
        return self.ticks.pop(0) if len(self.ticks) > 1 else self.ticks[0]


@given(times, counters, randoms)
def test_the_fields_are_where_rfc_9562_wants_them(
    unix_ms: int, counter: int, random_bits: int
) -> None:
    made = uuid7(unix_ms, counter, random_bits)

    assert made.int >> 80 == unix_ms
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 64 & (1 << COUNTER_BITS) - 1 == counter
    assert made.int & (1 << 62) - 1 == random_bits


def test_the_example_of_rfc_9562() -> None:
    made = uuid7(0x017F22E279B0, 0xCC3, 0x18C4DC0C0C07398F)

    assert made == UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


def test_surplus_random_bits_touch_nothing_else() -> None:
    assert uuid7(1, 2, (1 << 80) - 1) == uuid7(1, 2, (1 << 62) - 1)


def test_a_counter_that_does_not_fit_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        uuid7(1, 1 << COUNTER_BITS, 0)


@given(st.lists(times, min_size=1, max_size=60), st.data())
def test_ids_rise_whatever_the_clock_does(ticks: list[int], data: st.DataObject) -> None:
    ids = RunIds(Clock(*ticks), lambda _: data.draw(randoms))

    made = [ids.next() for _ in ticks]

    assert made == sorted(set(made))


def test_more_ids_in_a_millisecond_than_the_counter_holds_push_the_time_on() -> None:
    ids = RunIds(Clock(1_000), lambda _: 0)

    made = [ids.next() for _ in range(2 * (1 << COUNTER_BITS) + 1)]

    assert made == sorted(set(made))
    assert [made[0].int >> 80, made[-1].int >> 80] == [1_000, 1_002]


def test_a_clock_that_catches_up_is_followed_again() -> None:
    ids = RunIds(Clock(1_000, 500, 500, 1_001), lambda _: 0)

    made = [ids.next() for _ in range(4)]

    assert [one.int >> 80 for one in made] == [1_000, 1_000, 1_000, 1_001]
    assert made == sorted(set(made))


def test_a_run_of_ids_is_ordered_by_time_before_all_else() -> None:
    assert uuid7(1_000, 4_095, (1 << 62) - 1) < uuid7(1_001, 0, 0)


def test_an_id_tells_when_it_was_made() -> None:
    made = uuid7(1_772_366_400_123, 7, 9)

    assert made_at(made) == datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
