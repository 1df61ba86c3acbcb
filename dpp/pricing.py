"""What a submission may cost: the pack's appraisal of it, and the plan's minimum fee.

An appraisal depends on bytes and packs alone, so it is made before any lock is taken and only
chosen after it. The minimum fee is computed once, at admission, and stored with the run: whoever
ends the run reads it there.
"""

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
