"""Inputs and result of a decision, their bounds, and the price.

Criteria are weighed and either wanted high (`max`) or low (`min`). Everything but the question is
optional: what is missing is named in the result instead of being refused, so a client may ask
first and fill in later.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Literal, TypeAlias

from attrs import field, frozen
from msgspec import Meta

from dpp.money import Micros
from dpp.packs.inputs import invalid, pointer
from dpp.pricing import Appraised, InputError, InputsInvalid

OPTIONS_MAX = 10_000
CRITERIA_MAX = 1_000
CELLS_MAX = 1_000_000  # seconds of one processor and some 200 MB; more belongs in another tool
NUMBER_MAX = 1e15  # whole numbers up to here are exact, and squares stay far from overflow
WEIGHT_MIN = 1e-15  # the square of the smallest share of a weight stays far from underflow

BASE = Micros(10_000)  # $0.01
CELL = Micros(1)  # $0.000001 for each option × criterion

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]
Number: TypeAlias = Annotated[float, Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
Weight: TypeAlias = Annotated[float, Meta(ge=WEIGHT_MIN, le=NUMBER_MAX)]
Direction: TypeAlias = Literal["max", "min"]
MethodName: TypeAlias = Literal["weighted_sum", "topsis"]
Verdict: TypeAlias = Literal["decided", "tie", "undetermined"]


@frozen
class Criterion:
    """What options are judged by. Only the ratios of weights matter, not their sum."""

    name: Name
    weight: Weight
    direction: Direction


@frozen
class DecisionInputs:
    """A question, and whatever is known by now."""

    question: Annotated[str, Meta(min_length=1, max_length=10_000)]
    options: Annotated[tuple[Name, ...], Meta(max_length=OPTIONS_MAX)] = ()
    criteria: Annotated[tuple[Criterion, ...], Meta(max_length=CRITERIA_MAX)] = ()
    scores: Annotated[
        dict[str, Annotated[dict[str, Number], Meta(max_length=CRITERIA_MAX)]],
        Meta(max_length=OPTIONS_MAX),
    ] = field(factory=dict)
    method: MethodName = "weighted_sum"

    @property
    def cells(self) -> int:
        """Options × criteria: what the price counts."""
        return len(self.options) * len(self.criteria)


@frozen
class Row:
    """One option in the ranking; options of one rank are tied."""

    option: str
    score: float
    rank: int
    tied: bool
    dominated_by: str | None


@frozen
class Flip:
    """Add `change` to the weight of `criterion`, and `overtaken_by` beats the winner."""

    criterion: str
    change: float
    overtaken_by: str


@frozen
class Proof:
    """With the inputs, all that a replay needs."""

    pack: str
    pack_version: str
    method: str
    normalisation: str
    significant_digits: int
    ties: str
    inputs_sha256: str


@frozen
class Decision:
    """The result. `missing` holds JSON pointers into the inputs, the first thousand of them."""

    verdict: Verdict
    winner: str | None
    ranking: tuple[Row, ...]
    flip: Flip | None
    dominated: tuple[str, ...]
    missing: tuple[str, ...]
    missing_count: int
    proof: Proof


def quote(inputs: DecisionInputs) -> Appraised | InputsInvalid:
    """State the price, which is known and so the floor too; or what contradicts itself."""
    errors = chain(_twice(inputs), _unknown(inputs), _too_many(inputs))
    first = next(errors, None)
    if first is not None:
        return invalid(chain((first,), errors))
    price = price_of(inputs)
    return Appraised(floor=price, price=price)


def price_of(inputs: DecisionInputs) -> Micros:
    """Return what an analysis costs: the base, and a little for each option × criterion."""
    return Micros(BASE + CELL * inputs.cells)


def _twice(inputs: DecisionInputs) -> Iterator[InputError]:
    seen: set[str] = set()
    for i, option in enumerate(inputs.options):
        if option in seen:
            yield InputError(pointer("options", i), "is listed twice")
        seen.add(option)
    seen = set()
    for i, criterion in enumerate(inputs.criteria):
        if criterion.name in seen:
            yield InputError(pointer("criteria", i, "name"), "is listed twice")
        seen.add(criterion.name)


def _unknown(inputs: DecisionInputs) -> Iterator[InputError]:
    """Scores of what is not listed; where nothing is listed yet, that is missing, not wrong."""
    options = frozenset(inputs.options)
    criteria = frozenset(criterion.name for criterion in inputs.criteria)
    for option, scores in inputs.scores.items():
        if options and option not in options:
            yield InputError(pointer("scores", option), "is not among the options")
        elif criteria and not criteria.issuperset(scores):
            for name in scores:
                if name not in criteria:
                    yield InputError(pointer("scores", option, name), "is not among the criteria")


def _too_many(inputs: DecisionInputs) -> Iterator[InputError]:
    if inputs.cells > CELLS_MAX:
        words = f"options × criteria must be at most {CELLS_MAX}, here {inputs.cells}"
        yield InputError(pointer("options"), words)
