"""Fees: one formula, whole micros, rounded down, and its words."""

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.money import AMOUNT_MAX, Micros
from dpp.pricing import Appraised, FeeRule, Quote, policy_text, quote

amounts = st.integers(min_value=0, max_value=AMOUNT_MAX)
reserves = st.integers(min_value=1, max_value=AMOUNT_MAX)
rules = st.builds(
    FeeRule, floor=amounts, percent_ppm=st.integers(min_value=0, max_value=1_000_000), cap=amounts
)


@given(rules, reserves)
def test_the_fee_is_the_formula_in_exact_arithmetic(rule: FeeRule, reserve: int) -> None:
    share = Fraction(reserve) * Fraction(rule.percent_ppm, 1_000_000)

    fee = rule.fee(Micros(reserve))

    assert fee == min(max(rule.floor, floor(share)), reserve, rule.cap)
    assert type(fee) is int


@given(rules, reserves)
def test_a_fee_is_never_over_the_reserve_nor_over_the_cap(rule: FeeRule, reserve: int) -> None:
    assert 0 <= rule.fee(Micros(reserve)) <= min(reserve, rule.cap)


@given(rules, reserves)
def test_a_reserve_that_the_rule_admits_covers_the_least_fee(rule: FeeRule, reserve: int) -> None:
    if reserve >= rule.least_reserve:
        assert rule.fee(Micros(reserve)) >= rule.least_reserve


@pytest.mark.parametrize(
    ("reserve", "fee"),
    [
        (5_000, 5_000),  # the floor, and the least reserve
        (250_000, 5_000),  # 2 % is the floor
        (250_049, 5_000),  # rounded down
        (250_050, 5_001),
        (1_000_000, 20_000),
        (5_000_000, 100_000),  # 2 % is the cap
        (5_000_049, 100_000),
        (1_000_000_000_000, 100_000),
        (1, 1),  # under the floor only the reserve is there
    ],
)
def test_the_usual_fee(reserve: int, fee: int) -> None:
    assert FeeRule().fee(Micros(reserve)) == fee


@pytest.mark.parametrize(
    ("reserve", "percent_ppm", "fee"),
    [(100, 290_000, 29), (100, 570_000, 57), (1_000, 1_001, 1), (10**12, 999_999, 999_999_000_000)],
)
def test_no_float_takes_part(reserve: int, percent_ppm: int, fee: int) -> None:
    """0.29 * 100 is 28.999999999999996."""
    rule = FeeRule(floor=Micros(0), percent_ppm=percent_ppm, cap=Micros(AMOUNT_MAX))

    assert rule.fee(Micros(reserve)) == fee


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (FeeRule(), 5_000),
        (FeeRule(floor=Micros(200_000)), 100_000),
        (FeeRule(cap=Micros(0)), 0),
        (FeeRule(floor=Micros(0)), 0),
    ],
)
def test_the_least_reserve_is_the_lower_of_floor_and_cap(rule: FeeRule, least: int) -> None:
    assert rule.least_reserve == least


@pytest.mark.parametrize(
    ("rule", "code", "text"),
    [
        (
            FeeRule(),
            "5000/20000/100000",
            "pay what the pack charged; a run that fails by itself costs at least 2% of its"  # noqa: ISC004
            " reserve, not under $0.005, not over $0.10 or the reserve",
        ),
        (
            FeeRule(floor=Micros(0), percent_ppm=12_345, cap=Micros(1)),
            "0/12345/1",
            "pay what the pack charged; a run that fails by itself costs at least 1.2345% of its"  # noqa: ISC004
            " reserve, not under $0.00, not over $0.000001 or the reserve",
        ),
        (
            FeeRule(cap=Micros(0)),
            "5000/20000/0",
            "pay what the pack charged; no minimum fee",
        ),
        (
            FeeRule(floor=Micros(0), percent_ppm=0),
            "0/0/100000",
            "pay what the pack charged; no minimum fee",
        ),
    ],
)
def test_a_rule_is_stored_as_a_code_and_said_in_words(rule: FeeRule, code: str, text: str) -> None:
    assert rule.code == code
    assert policy_text(code) == text


@given(rules, reserves)
def test_words_promise_no_minimum_exactly_where_the_rule_takes_none(
    rule: FeeRule, reserve: int
) -> None:
    if policy_text(rule.code).endswith("no minimum fee"):
        assert rule.fee(Micros(reserve)) == 0


@given(rules, st.builds(Appraised, floor=amounts, price=st.none() | amounts), reserves)
def test_a_quote_reserves_what_is_said_and_expects_no_more(
    rule: FeeRule, appraised: Appraised, max_cost: int
) -> None:
    quoted = quote(appraised, rule, Micros(max_cost))

    assert quoted.reserve == max_cost
    assert 0 <= quoted.low <= quoted.high <= max_cost
    assert quoted.minimum_fee == rule.fee(Micros(max_cost))
    assert (quoted.low == quoted.high) or appraised.price is None


@given(rules, st.builds(Appraised, floor=amounts, price=st.none() | amounts))
def test_an_open_quote_is_the_least_that_covers_floor_price_and_fee(
    rule: FeeRule, appraised: Appraised
) -> None:
    reserve = quote(appraised, rule, None).reserve

    wanted = [appraised.floor, appraised.price or 0, rule.least_reserve, 1]
    assert all(reserve >= one for one in wanted)
    assert reserve in wanted


def test_a_known_price_is_both_ends_and_else_all_may_be_charged() -> None:
    known, unknown = Appraised(Micros(7), Micros(9)), Appraised(Micros(7), None)
    free = FeeRule(Micros(0), 0, Micros(0))

    def quoted(reserve: int, low: int, high: int) -> Quote:
        return Quote(
            reserve=Micros(reserve), low=Micros(low), high=Micros(high), minimum_fee=Micros(0)
        )

    assert quote(known, free, None) == quoted(9, 9, 9)
    assert quote(known, free, Micros(20)) == quoted(20, 9, 9)
    assert quote(known, free, Micros(8)) == quoted(8, 8, 8)  # a pack whose floor is under its price
    assert quote(unknown, free, None) == quoted(7, 0, 7)
    assert quote(unknown, free, Micros(20)) == quoted(20, 0, 20)
