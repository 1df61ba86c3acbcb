"""Decisions for tests: by hand, and drawn by Hypothesis."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import evolve
from hypothesis import strategies as st

from dpp.packs.decision.model import (
    Criterion,
    DecisionInputs,
    Direction,
    MethodName,
)

Rows: TypeAlias = Mapping[str, Sequence[float]]

METHOD_NAMES: tuple[MethodName, ...] = ("weighted_sum", "topsis")


def decision(
    criteria: Mapping[str, tuple[float, Direction]],
    rows: Rows,
    method: MethodName = "weighted_sum",
) -> DecisionInputs:
    """Inputs from `{criterion: (weight, direction)}` and `{option: scores in that order}`."""
    return DecisionInputs(
        question="Which?",
        options=tuple(rows),
        criteria=tuple(
            Criterion(name, float(weight), direction)
            for name, (weight, direction) in criteria.items()
        ),
        scores={o: dict(zip(criteria, map(float, row), strict=True)) for o, row in rows.items()},
        method=method,
    )


def reweighed(inputs: DecisionInputs, name: str, change: float) -> DecisionInputs:
    """The same with one weight changed."""
    return evolve(
        inputs,
        criteria=tuple(
            evolve(criterion, weight=criterion.weight + change)
            if criterion.name == name
            else criterion
            for criterion in inputs.criteria
        ),
    )


whole_scores = st.integers(-20, 20).map(float)
real_scores = st.floats(-1e3, 1e3, allow_nan=False)
whole_weights = st.integers(1, 20).map(float)
real_weights = st.floats(0.01, 100)


@st.composite
def decisions(draw: st.DrawFn, options_max: int = 6, criteria_max: int = 4) -> DecisionInputs:
    """Complete inputs: small whole numbers, where ties are common, or any others."""
    count = draw(st.integers(1, criteria_max))
    whole = draw(st.booleans())
    score, weight = (whole_scores, whole_weights) if whole else (real_scores, real_weights)
    directions: st.SearchStrategy[Direction] = st.sampled_from(["max", "min"])
    criteria = {f"c{i}": (draw(weight), draw(directions)) for i in range(count)}
    row = st.lists(score, min_size=count, max_size=count)
    rows = draw(st.lists(row, min_size=1, max_size=options_max))
    return decision(
        criteria, {f"o{i}": row for i, row in enumerate(rows)}, draw(st.sampled_from(METHOD_NAMES))
    )
