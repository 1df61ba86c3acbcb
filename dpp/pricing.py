"""What a submission may cost: the pack's appraisal of it, and the plan's minimum fee.

An appraisal depends on bytes and packs alone, so it is made before any lock is taken and only
chosen after it. The minimum fee is computed once, at admission, and stored with the run: whoever
ends the run reads it there.
"""

from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen

from dpp import money
from dpp.money import ZERO, Micros

PPM = 1_000_000


@frozen
class InputError:
    """One thing wrong with a request: a JSON pointer into it, and what is allowed there."""

    pointer: str
    message: str


@frozen
class Appraised:
    """The pack takes these inputs: the least `max_cost` (0 = none), the price if known."""

    floor: Micros = ZERO
    price: Micros | None = None


@frozen
class InputsInvalid:
    """The pack cannot take these inputs; all that is wrong with them."""

    errors: tuple[InputError, ...]


@frozen
class PackUnknown:
    """No such pack is loaded on this node."""

    allowed: tuple[str, ...] = ()


Appraisal: TypeAlias = Appraised | InputsInvalid | PackUnknown


@frozen(kw_only=True)
class PackFacts:
    """What clients are told of a pack: schemas of inputs and result, the price and its rates."""

    pack_type: str
    version: str
    input_schema: Mapping[str, object]
    output_schema: Mapping[str, object]
    price: str
    rates: Mapping[str, Micros]


@frozen
class FeeRule:
    """A minimum fee: `min(max(floor, percent of the reserve), reserve, cap)`, rounded down."""

    floor: Micros = field(default=Micros(5_000))
    percent_ppm: int = field(default=20_000)
    cap: Micros = field(default=Micros(100_000))

    def fee(self, reserve: Micros) -> Micros:
        """Return the least that a run ended by itself as FAILED costs."""
        return Micros(min(max(self.floor, reserve * self.percent_ppm // PPM), reserve, self.cap))

    @property
    def least_reserve(self) -> Micros:
        """Return the least `max_cost` that this rule admits."""
        return Micros(min(self.floor, self.cap))

    @property
    def code(self) -> str:
        """Return the rule as it is stored with the run: floor, ppm and cap in micros."""
        return f"{self.floor}/{self.percent_ppm}/{self.cap}"


@frozen(kw_only=True)
class Quote:
    """What a submission would reserve, and between what it is expected to cost if it completes."""

    reserve: Micros
    low: Micros
    high: Micros
    minimum_fee: Micros


def quote(appraised: Appraised, fee: FeeRule, max_cost: Micros | None) -> Quote:
    """Quote a submission that would be admitted; without a `max_cost`, at the least that would be.

    The least is the greatest of the pack's floor, its price where it is known, the rule's least
    reserve, and one micro. A known price is both ends; else all of the reserve may be charged.
    """
    least = max(appraised.floor, appraised.price or ZERO, fee.least_reserve, Micros(1))
    reserve = least if max_cost is None else max_cost
    price = None if appraised.price is None else Micros(min(appraised.price, reserve))
    return Quote(
        reserve=reserve,
        low=ZERO if price is None else price,
        high=reserve if price is None else price,
        minimum_fee=fee.fee(reserve),
    )


def policy_text(code: str) -> str:
    """Say a stored rule in words, for `cost.policy` and receipts."""
    floor, ppm, cap = (int(part) for part in code.split("/"))
    if cap == 0 or (floor == 0 and ppm == 0):
        return "pay what the pack charged; no minimum fee"
    percent = f"{ppm / 10_000:g}"  # a ratio for people, not an amount
    return (
        "pay what the pack charged; a run that fails by itself costs at least"
        f" {percent}% of its reserve, not under ${money.show(floor)},"
        f" not over ${money.show(cap)} or the reserve"
    )
