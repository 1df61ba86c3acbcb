"""What holds for every decision."""

import random

import pytest
from attrs import asdict, evolve
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dpp.packs.decision.analysis import Step, advance, analyse, decide
from dpp.packs.decision.model import DecisionInputs
from dpp.packs.results import encode
from tests.packs.decisions import decision, decisions


def scores_of(inputs: DecisionInputs) -> dict[str, float]:
    return {row.option: row.score for row in decide(inputs).ranking}


@given(decisions())
def test_every_option_is_ranked_once_with_a_score_from_0_to_1(inputs: DecisionInputs) -> None:
    answer = decide(inputs)

    assert sorted(row.option for row in answer.ranking) == sorted(inputs.options)
    assert all(0 <= row.score <= 1 for row in answer.ranking)
    assert [row.rank for row in answer.ranking] == sorted(row.rank for row in answer.ranking)


@example(decision({"x": (1, "max")}, {"A": (0,), "B": (5e-324,), "C": (1,)}, "topsis"))
@given(decisions())
def test_a_dominated_option_never_wins_nor_passes_its_dominator(inputs: DecisionInputs) -> None:
    answer = decide(inputs)

    ranks = {row.option: row.rank for row in answer.ranking}
    assert answer.ranking[0].dominated_by is None
    for row in answer.ranking:
        if row.dominated_by is not None:
            assert ranks[row.dominated_by] < row.rank


@given(decisions())
def test_dominance_is_what_comparing_all_pairs_finds(inputs: DecisionInputs) -> None:
    signs = {c.name: 1 if c.direction == "max" else -1 for c in inputs.criteria}
    rows = {o: [signs[c] * x for c, x in inputs.scores[o].items()] for o in inputs.options}

    def dominates(a: str, b: str) -> bool:
        return rows[a] != rows[b] and all(x >= y for x, y in zip(rows[a], rows[b], strict=True))

    by = {row.option: row.dominated_by for row in decide(inputs).ranking}

    for option in inputs.options:
        assert by[option] == next((o for o in inputs.options if dominates(o, option)), None)


@given(decisions(), st.randoms(use_true_random=False))
def test_the_order_of_the_inputs_changes_no_score(
    inputs: DecisionInputs, shuffler: random.Random
) -> None:
    options, criteria = list(inputs.options), list(inputs.criteria)
    shuffler.shuffle(options)
    shuffler.shuffle(criteria)

    shuffled = evolve(inputs, options=tuple(options), criteria=tuple(criteria))

    assert scores_of(shuffled) == scores_of(inputs)


@given(decisions(), st.sampled_from([0.125, 2.0, 1024.0]))
def test_scaling_the_weights_changes_no_score(inputs: DecisionInputs, factor: float) -> None:
    scaled = evolve(
        inputs, criteria=tuple(evolve(c, weight=c.weight * factor) for c in inputs.criteria)
    )

    assert scores_of(scaled) == scores_of(inputs)


@given(decisions(), st.floats(1e-3, 1e3))
def test_scaling_the_weights_changes_no_order_that_can_be_seen(
    inputs: DecisionInputs, factor: float
) -> None:
    scaled = evolve(
        inputs, criteria=tuple(evolve(c, weight=c.weight * factor) for c in inputs.criteria)
    )

    before, after = scores_of(inputs), scores_of(scaled)

    assert after == pytest.approx(before, rel=1e-8, abs=1e-12)


@given(decisions())
def test_turning_a_criterion_round_with_its_scores_changes_no_weighted_sum(
    inputs: DecisionInputs,
) -> None:
    assume(inputs.method == "weighted_sum")
    turned = evolve(
        inputs,
        criteria=tuple(
            evolve(c, direction="min" if c.direction == "max" else "max") for c in inputs.criteria
        ),
        scores={o: {c: -x for c, x in row.items()} for o, row in inputs.scores.items()},
    )

    assert scores_of(turned) == scores_of(inputs)


@given(decisions())
def test_the_same_inputs_give_the_same_bytes(inputs: DecisionInputs) -> None:
    assert encode(asdict(decide(inputs))) == encode(asdict(decide(inputs)))


def test_a_large_analysis_pauses_and_answers_the_same() -> None:
    """40 criteria × 5,000 options are 4 steps and more of each part."""
    seeded = random.Random(7)
    inputs = decision(
        {f"c{i}": (seeded.uniform(1, 5), "max") for i in range(40)},
        {f"o{i}": [seeded.random() for _ in range(40)] for i in range(5_000)},
    )

    steps, work = [], analyse(inputs)
    while isinstance(step := advance(work), Step):
        steps.append(step)

    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions)
    assert len(steps) >= 15
    assert len(step.ranking) == 5_000
    assert step.flip is not None
