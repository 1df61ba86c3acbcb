"""Leases: how long a process trusts one, and what becomes of a run whose attempt was lost."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.leases import (
    MARGIN_S,
    EndCanceled,
    EndFree,
    Lapse,
    Requeue,
    TakeBack,
    after_lapse,
    trusted_until,
)
from dpp.runs import ErrorCode, Failure

FREE = EndFree(
    Failure(ErrorCode.LOST_LEASE, "the platform lost 3 attempts at this run; nothing is charged")
)


@given(
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0.1, max_value=3600, exclude_min=True),
)
def test_trust_ends_before_the_row_however_late_the_answer(asked_at: float, lease_s: float) -> None:
    trusted = trusted_until(asked_at, lease_s)

    assert asked_at < trusted < asked_at + lease_s


@pytest.mark.parametrize(("lease_s", "trusted"), [(30.0, 29.0), (5.0, 4.0), (2.0, 1.6), (1.0, 0.8)])
def test_the_margin_is_a_second_and_less_for_short_leases(lease_s: float, trusted: float) -> None:
    assert trusted_until(0.0, lease_s) == pytest.approx(trusted)
    assert trusted_until(0.0, lease_s) >= lease_s - MARGIN_S


@pytest.mark.parametrize(
    ("lapse", "cancel_asked", "attempts_spent"),
    list(itertools.product(Lapse, [False, True], range(4))),
)
def test_every_lost_attempt_has_one_consequence(
    lapse: Lapse,
    cancel_asked: bool,  # noqa: FBT001
    attempts_spent: int,  # a row of a table
) -> None:
    table: dict[tuple[bool, Lapse], TakeBack] = {
        (True, Lapse.HANDED_BACK): EndCanceled(),
        (True, Lapse.LOST): EndCanceled(),
        (False, Lapse.HANDED_BACK): Requeue(spent=0),
        (False, Lapse.LOST): Requeue(spent=1) if attempts_spent < 2 else FREE,
    }

    after = after_lapse(
        lapse, cancel_asked=cancel_asked, attempts_spent=attempts_spent, attempts_max=3
    )

    assert after == table[cancel_asked, lapse]


@pytest.mark.parametrize("attempts_max", range(1, 6))
def test_a_run_gets_exactly_as_many_attempts_as_allowed(attempts_max: int) -> None:
    attempts = 0
    while True:
        attempts += 1
        after = after_lapse(
            Lapse.LOST, cancel_asked=False, attempts_spent=attempts - 1, attempts_max=attempts_max
        )
        if isinstance(after, EndFree):
            break

    assert attempts == attempts_max
