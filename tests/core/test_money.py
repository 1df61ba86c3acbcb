"""Money: the grammar of amounts, both ways."""

import re
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpp.money import AMOUNT_MAX, NotMoney, parse, parse_signed, show

amounts = st.integers(min_value=0, max_value=AMOUNT_MAX)
near_money = st.text(alphabet="0123456789.+-eE ,_\u0660\u0967\n", max_size=12)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("0.0", 0),
        ("0.000000", 0),
        ("0.000001", 1),
        ("0.000125", 125),
        ("1", 1_000_000),
        ("1.0", 1_000_000),
        ("1.00", 1_000_000),
        ("10.5", 10_500_000),
        ("999999.999999", 999_999_999_999),
        ("1000000", 1_000_000_000_000),
        ("1000000.000000", 1_000_000_000_000),
    ],
)
def test_an_amount_is_read_to_the_micro(text: str, micros: int) -> None:
    assert parse(text) == micros


@pytest.mark.parametrize(
    "value",
    [
        *("-1", "-0", "+1", " 1", "1 ", "1\n", "\t1", "1,00", ".5", "5.", "01", "00", "00.1"),
        *("0.0000001", "1e3", "1E-7", "NaN", "nan", "Infinity", "-inf", "0x1", "1_000", "$1", ""),
        *("1000000.000001", "1000001", "9999999", "9223372036854.775807", "9" * 400, "1" + "0" * 7),
        *("١", "１", "1.٥", "1\u00a0", "1\x00", "\x001", "¹", "½"),
        *(1, 1.0, 0, True, False, None, b"1", Decimal(1), [], {}, ["1"]),
    ],
)
def test_what_is_no_amount_is_refused_by_name(value: object) -> None:
    with pytest.raises(NotMoney, match=re.escape('must be a decimal string such as "1.00"')):
        parse(value)


@given(amounts)
def test_what_is_shown_reads_back_as_itself(micros: int) -> None:
    shown = show(micros)

    assert parse(shown) == micros
    assert re.fullmatch(r"(0|[1-9][0-9]*)\.[0-9]{2}([0-9]{0,3}[1-9])?", shown), shown


@given(amounts, st.integers(min_value=0, max_value=6))
def test_any_number_of_decimals_that_loses_nothing_is_the_same_amount(
    micros: int, decimals: int
) -> None:
    exact = Decimal(micros).scaleb(-6)
    text = f"{exact:.{decimals}f}"

    assert (parse(text) == micros) == (Decimal(text) == exact)


@given(near_money)
@example("1\n")
@example("1.1\n")
def test_only_the_grammar_is_money(text: str) -> None:
    plain = re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]{1,6})?", text, re.ASCII) is not None
    allowed = plain and Decimal(text) <= 1_000_000

    try:
        micros = parse(text)
    except NotMoney:
        assert not allowed
    else:
        assert allowed
        assert micros == Decimal(text) * 1_000_000


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (10, "0.00001"),
        (100_000, "0.10"),
        (120_000, "0.12"),
        (123_400, "0.1234"),
        (1_000_000, "1.00"),
        (-1, "-0.000001"),
        (-1_500_000, "-1.50"),
        (2**63 - 1, "9223372036854.775807"),
    ],
)
def test_an_amount_is_shown_with_two_to_six_decimals(micros: int, text: str) -> None:
    assert show(micros) == text


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        *(("0", 0), ("-0.00", 0), ("+0", 0), ("5", 5_000_000), ("+0.05", 50_000)),
        *(("-0.000001", -1), ("-1000000", -AMOUNT_MAX), ("1000000", AMOUNT_MAX)),
    ],
)
def test_an_adjusts_amount_may_have_a_sign(text: str, micros: int) -> None:
    assert parse_signed(text) == micros


@pytest.mark.parametrize(
    "value",
    [
        *("--1", "+-1", "-+1", "++1", "- 1", " -1", "-1 ", "-", "+", "", "\u22121", "-.5", "-1e3"),
        *("-1000000.000001", "1000000.000001", "-NaN", "-1\n"),
        *(-1, 1, -1.0, 0, True, None, b"-1", Decimal(-1), ["-1"]),
    ],
)
def test_what_is_no_signed_amount_is_refused_by_name(value: object) -> None:
    with pytest.raises(NotMoney, match=re.escape('such as "1.00" or "-0.05"')):
        parse_signed(value)


@given(st.integers(min_value=-AMOUNT_MAX, max_value=AMOUNT_MAX))
def test_a_signed_amount_that_is_shown_reads_back_as_itself(micros: int) -> None:
    assert parse_signed(show(micros)) == micros
