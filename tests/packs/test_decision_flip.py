"""The smallest change of a weight that flips the winner: by hand, then against a search."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpp.packs.decision.analysis import decide
from dpp.packs.decision.flip import crossings
from dpp.packs.decision.model import NUMBER_MAX, WEIGHT_MIN, Decision, DecisionInputs, MethodName
from tests.packs.decisions import METHOD_NAMES, decision, decisions, reweighed

LEAD_MIN = 1e-4  # below, and far from the weights as they are, a hundredth of the way back
CHANGE_MAX = 30  # to the winner's lead is less than the ninth digit shows


def test_a_linear_flip_by_hand() -> None:
    """B leads C by 3 · 1/2 - 1 · 3/4 = 3/4: level with price -1.5, or with range +1."""
    inputs = decision(
        {"price": (3, "min"), "range": (1, "max")}, {"A": (100, 9), "B": (80, 5), "C": (90, 8)}
    )

    flip = decide(inputs).flip

    assert flip is not None
    assert (flip.criterion, flip.overtaken_by) == ("range", "C")
    assert 1 < flip.change <= 1 + 2e-8


def test_a_linear_flip_may_take_weight_away() -> None:
    """A has 1 and 0, B has 0 and 1: level where the weights are; 5 to 4 is nearer from above."""
    inputs = decision({"x": (5, "max"), "y": (4, "max")}, {"A": (1, 0), "B": (0, 1)})

    flip = decide(inputs).flip

    assert flip is not None
    assert (flip.criterion, flip.overtaken_by) == ("x", "B")
    assert -1 - 4e-8 <= flip.change < -1


def test_a_quadratic_flip_by_hand() -> None:
    """A is far 3 and near 1, B the other way round, in units of the weights 3 and 1."""
    inputs = decision({"x": (3, "max"), "y": (1, "max")}, {"A": (4, 3), "B": (3, 4)}, "topsis")

    flip = decide(inputs).flip

    assert flip is not None
    assert flip.overtaken_by == "B"
    assert abs(flip.change) == pytest.approx(2, rel=1e-7)
    assert abs(flip.change) > 2


def test_no_flip_where_the_winner_is_best_everywhere() -> None:
    inputs = decision({"x": (1, "max"), "y": (1, "min")}, {"A": (3, 1), "B": (2, 2), "C": (3, 2)})

    answer = decide(inputs)

    assert (answer.winner, answer.flip) == ("A", None)
    assert answer.dominated == ("C", "B")


def test_no_flip_with_a_single_criterion() -> None:
    assert decide(decision({"x": (1, "max")}, {"A": (3,), "B": (2,)})).flip is None


def test_a_weight_is_not_flipped_out_of_its_bounds() -> None:
    """B would draw level when x weighs nothing or y weighs 5e15: neither is a weight."""
    inputs = decision(
        {"x": (1e15, "max"), "y": (1e15, "max"), "z": (1, "max")},
        {"A": (5, 1, 5), "B": (0, 2, 5), "C": (0, 0, 0)},
    )

    answer = decide(inputs)

    assert answer.winner == "A"
    flip = answer.flip
    assert flip is None or _legal(inputs, flip.criterion, flip.change)


def test_a_weight_may_have_to_shrink_to_almost_nothing() -> None:
    """Level where 8.7e-9 of the 2 is left: a change of nine digits is too short or too long."""
    inputs = decision(
        {"x": (2, "max"), "y": (0.5, "min")}, {"A": (0, 0), "B": (0, 574), "C": (1, 1e-5)}
    )

    answer = decide(inputs)

    assert answer.flip is not None
    assert (answer.flip.criterion, answer.flip.overtaken_by) == ("x", "A")
    assert answer.flip.change == pytest.approx(-2 + 0.5e-5 / 574, abs=1e-9)
    assert _flips(inputs, answer, "x", answer.flip.change)


def test_a_lead_that_nine_digits_just_show_can_be_flipped() -> None:
    inputs = decision(
        {"x": (1 + 3e-9, "max"), "y": (1, "max")}, {"A": (1, 0), "B": (0, 1), "C": (0, 0)}
    )

    answer = decide(inputs)

    assert answer.winner == "A"
    assert answer.flip is not None
    assert _flips(inputs, answer, answer.flip.criterion, answer.flip.change)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_winner_by_dominance_alone_does_not_flip_to_what_it_dominates(method: MethodName) -> None:
    """B and C score the same to the ninth digit, and to the last: there is no lead to take away."""
    inputs = decision(
        {"x": (1, "max"), "y": (1, "max"), "z": (1, "max")},
        {"A": (0, 2, -1), "B": (1, 1, 0), "C": (1, 1, 7e-57)},
        method,
    )

    answer = decide(inputs)

    assert answer.winner == "C"
    assert answer.ranking[0].score == answer.ranking[1].score
    assert answer.flip is not None
    assert answer.flip.overtaken_by == "A"


@given(decisions())
def test_a_flip_flips_however_little_it_shows(inputs: DecisionInputs) -> None:
    answer = decide(inputs)
    flip = answer.flip
    assume(flip is not None)
    assert flip is not None

    assert _legal(inputs, flip.criterion, flip.change)
    assert flip.overtaken_by in _ahead(inputs, answer, flip.criterion, flip.change)


@given(decisions())
def test_a_flip_flips_and_nothing_smaller_does(inputs: DecisionInputs) -> None:
    """Also on other criteria: each weight is moved by up to 0.99 of the change, up and down."""
    answer = decide(inputs)
    flip = answer.flip
    assume(flip is not None and _well_seen(inputs, answer))
    assert flip is not None

    assert _flips(inputs, answer, flip.criterion, flip.change)
    assert not _flips(inputs, answer, flip.criterion, 0.9 * flip.change)
    for criterion in inputs.criteria:
        for share in (-0.99, -0.9, -0.5, -0.1, 0.1, 0.5, 0.9, 0.99):
            change = share * abs(flip.change)
            if _legal(inputs, criterion.name, change):
                assert not _flips(inputs, answer, criterion.name, change)


@given(decisions(), st.data())
def test_where_no_flip_is_reported_no_weight_flips(
    inputs: DecisionInputs, data: st.DataObject
) -> None:
    answer = decide(inputs)
    assume(answer.verdict == "decided" and answer.flip is None)

    criterion = data.draw(st.sampled_from(inputs.criteria))
    weight = data.draw(st.floats(1e-6, 1e6))

    assert not _flips(inputs, answer, criterion.name, weight - criterion.weight)


@given(*[st.integers(-50, 50)] * 3)
def test_crossings_are_where_the_sign_changes(a: int, b: int, c: int) -> None:
    def value(x: float) -> float:
        return a * x * x + b * x + c

    found = sorted(crossings(a, b, c))

    assert all(value(x - 1e-4) * value(x + 1e-4) < 0 for x in found)
    if a:
        assert len(found) == (2 if b * b > 4 * a * c else 0)
    else:
        assert len(found) == (1 if b else 0)


def _ahead(inputs: DecisionInputs, answer: Decision, name: str, change: float) -> set[str]:
    """Who scores more than the winner after the change."""
    ranking = decide(reweighed(inputs, name, change)).ranking
    (winner,) = [row for row in ranking if row.option == answer.winner]
    return {row.option for row in ranking if row.score > winner.score}


def _flips(inputs: DecisionInputs, answer: Decision, name: str, change: float) -> bool:
    return bool(_ahead(inputs, answer, name, change))


def _well_seen(inputs: DecisionInputs, answer: Decision) -> bool:
    lead = answer.ranking[0].score - answer.ranking[1].score
    most = CHANGE_MAX * sum(criterion.weight for criterion in inputs.criteria)
    return lead > LEAD_MIN and answer.flip is not None and abs(answer.flip.change) < most


def _legal(inputs: DecisionInputs, name: str, change: float) -> bool:
    (weight,) = [c.weight for c in inputs.criteria if c.name == name]
    return WEIGHT_MIN <= weight + change <= NUMBER_MAX
