"""Amounts of money: integer micro-dollars, and their form on the wire.

One US dollar is 1,000,000 micros. No float ever holds money. What comes in is a decimal string
matched as a whole against one grammar; what goes out has at least two and at most six decimals.
"""

import re
from typing import NewType

Micros = NewType("Micros", int)

MICROS_A_DOLLAR = 1_000_000
AMOUNT_MAX = Micros(
    1_000_000 * MICROS_A_DOLLAR
)  # one amount: a million dollars, far under 2^63 when summed
ZERO = Micros(0)
GRAMMAR = re.compile(r"(0|[1-9][0-9]{0,6})(?:\.([0-9]{1,6}))?", re.ASCII)
ALLOWED = 'a decimal string such as "1.00" or "0.000125": at most 6 decimals, at most 1000000'
ALLOWED_SIGNED = 'a decimal string such as "1.00" or "-0.05": at most 6 decimals, at most 1000000'


class NotMoney(ValueError):
    """The text is no amount by the grammar; the message says what is allowed."""

    def __init__(self, allowed: str = ALLOWED) -> None:
        super().__init__(f"must be {allowed}")


def parse(text: object) -> Micros:
    """Read an amount from the wire; anything but a string of the grammar raises `NotMoney`."""
    match = GRAMMAR.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise NotMoney
    whole, decimals = match.group(1), match.group(2) or ""
    micros = Micros(int(whole) * MICROS_A_DOLLAR + int(decimals.ljust(6, "0")))
    if micros > AMOUNT_MAX:
        raise NotMoney
    return micros


def parse_signed(text: object) -> Micros:
    """Read an amount that may have a sign before it, as only an adjust's has."""
    if not isinstance(text, str):
        raise NotMoney(ALLOWED_SIGNED)
    try:
        micros = parse(text[1:] if text[:1] in {"+", "-"} else text)
    except NotMoney:
        raise NotMoney(ALLOWED_SIGNED) from None
    return Micros(-micros if text[0] == "-" else micros)


def show(micros: int) -> str:
    """Write an amount with two to six decimals; only adjusts are ever negative."""
    whole, part = divmod(abs(micros), MICROS_A_DOLLAR)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{decimals}"
