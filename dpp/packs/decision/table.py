"""The options that can be compared, as columns of numbers, and what is missing for the others.

An option takes part when it has a score for every criterion. Nothing is guessed: the others are
left out and what they lack is named, which leaves the verdict undetermined.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TypeAlias

from attrs import frozen

from dpp.packs.decision.model import Criterion, DecisionInputs

Column: TypeAlias = tuple[float, ...]

CELLS_A_STEP = 50_000  # some 50 ms of work: how long a cancelled analysis goes on unseen
MISSING_MAX = 1_000  # enough to fill in by; `missing_count` counts them all


@frozen
class Table:
    """Complete options in the order of the inputs; one column of raw scores a criterion."""

    options: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    columns: tuple[Column, ...]
    missing: tuple[str, ...]
    missing_count: int

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights, as given."""
        return tuple(criterion.weight for criterion in self.criteria)


def table_of(inputs: DecisionInputs) -> Table:
    """Return what of the inputs can be compared."""
    names = [criterion.name for criterion in inputs.criteria]
    complete = [o for o in inputs.options if names and inputs.scores.get(o, {}).keys() >= {*names}]
    lacking = _missing(inputs, names, frozenset(complete))
    shown = tuple(islice(lacking, MISSING_MAX))
    return Table(
        options=tuple(complete),
        criteria=inputs.criteria,
        columns=tuple(tuple(inputs.scores[o][name] for o in complete) for name in names),
        missing=shown,
        missing_count=len(shown) + sum(1 for _ in lacking),
    )


def _missing(inputs: DecisionInputs, names: list[str], complete: frozenset[str]) -> Iterator[str]:
    """Yield JSON pointers into the inputs; an option without any score is one, not many."""
    for member in ("options", "criteria", "scores"):
        if not getattr(inputs, member):
            yield f"/{member}"
    if not names or not inputs.scores:
        return
    for option in inputs.options:
        if option in complete:
            continue
        scores = inputs.scores.get(option, {})
        if not scores:
            yield f"/scores/{_escape(option)}"
            continue
        for name in names:
            if name not in scores:
                yield f"/scores/{_escape(option)}/{_escape(name)}"


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
