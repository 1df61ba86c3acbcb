"""Scores, ranks and dominance, worked out by hand."""

import math

import pytest

from dpp.packs.decision.analysis import decide
from dpp.packs.decision.methods import rounded
from dpp.packs.decision.model import MethodName, Row
from tests.packs.decisions import METHOD_NAMES, decision


def test_weighted_sum_by_hand() -> None:
    """Price 80 to 100 becomes 1 to 0, range 5 to 9 becomes 0 to 1; weights 3/4 and 1/4."""
    inputs = decision(
        {"price": (3, "min"), "range": (1, "max")}, {"A": (100, 9), "B": (80, 5), "C": (90, 8)}
    )

    answer = decide(inputs)

    assert (answer.verdict, answer.winner) == ("decided", "B")
    assert answer.ranking == (
        Row("B", 0.75, 1, tied=False, dominated_by=None),
        Row("C", 0.5625, 2, tied=False, dominated_by=None),  # 3/4 · 1/2 + 1/4 · 3/4
        Row("A", 0.25, 3, tied=False, dominated_by=None),
    )


def test_topsis_by_hand() -> None:
    """Both columns have length 5, so scores become 0.6 and 0.8; distances are in 0.2.

    A is worst by weight 2 and best by weight 1: far 1, near 2; B the other way round.
    """
    inputs = decision({"x": (2, "max"), "y": (1, "max")}, {"A": (3, 4), "B": (4, 3)}, "topsis")

    answer = decide(inputs)

    assert answer.winner == "B"
    assert [(row.option, row.score) for row in answer.ranking] == [
        ("B", 0.666666667),
        ("A", 0.333333333),
    ]


def test_topsis_turns_round_for_what_should_be_low() -> None:
    inputs = decision({"x": (2, "min"), "y": (1, "min")}, {"A": (3, 4), "B": (4, 3)}, "topsis")

    assert [(row.option, row.score) for row in decide(inputs).ranking] == [
        ("A", 0.666666667),
        ("B", 0.333333333),
    ]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_ends_of_every_criterion_score_1_and_0(method: MethodName) -> None:
    inputs = decision({"x": (1, "max"), "y": (2, "min")}, {"worst": (1, 9), "best": (5, 2)}, method)

    assert [(row.option, row.score) for row in decide(inputs).ranking] == [
        ("best", 1.0),
        ("worst", 0.0),
    ]


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("same", [0.0, -0.0, 7.0, -1e15, 5e-324])
def test_options_that_are_all_alike_tie_at_the_top(method: MethodName, same: float) -> None:
    inputs = decision({"x": (1, "max"), "y": (2, "min")}, {"A": (same, 1), "B": (same, 1)}, method)

    answer = decide(inputs)

    assert (answer.verdict, answer.winner, answer.flip) == ("tie", None, None)
    assert answer.ranking == (
        Row("A", 1.0, 1, tied=True, dominated_by=None),
        Row("B", 1.0, 1, tied=True, dominated_by=None),
    )


def test_ranks_count_places_and_a_tie_below_the_top_leaves_a_winner() -> None:
    inputs = decision(
        {"x": (1, "max"), "y": (1, "max")}, {"D": (0, 0), "B": (2, 1), "A": (1, 2), "C": (3, 3)}
    )

    answer = decide(inputs)

    assert answer.winner == "C"
    assert answer.ranking == (
        Row("C", 1.0, 1, tied=False, dominated_by=None),
        Row("B", 0.5, 2, tied=True, dominated_by="C"),  # in the order of the inputs
        Row("A", 0.5, 2, tied=True, dominated_by="C"),
        Row("D", 0.0, 4, tied=False, dominated_by="B"),
    )


def test_a_dominated_option_is_named_with_the_first_that_dominates_it() -> None:
    inputs = decision(
        {"x": (1, "max"), "y": (1, "min")},
        {"A": (5, 5), "B": (4, 5), "C": (5, 6), "D": (3, 6), "E": (9, 9), "F": (5, 5)},
    )

    answer = decide(inputs)

    by = {row.option: row.dominated_by for row in answer.ranking}
    assert by == {"A": None, "B": "A", "C": "A", "D": "A", "E": None, "F": None}
    assert set(answer.dominated) == {"B", "C", "D"}


def test_a_dominated_option_of_the_same_rounded_score_comes_after() -> None:
    """The criterion that tells them apart weighs less than nine digits can show."""
    inputs = decision(
        {"x": (1e6, "max"), "y": (1e-6, "max")}, {"B": (1, 0), "A": (1, 1), "C": (0, 0)}
    )

    answer = decide(inputs)

    assert answer.verdict == "decided"
    assert answer.ranking[:2] == (
        Row("A", 1.0, 1, tied=False, dominated_by=None),
        Row("B", 1.0, 2, tied=False, dominated_by="A"),
    )


def test_a_lone_option_wins() -> None:
    answer = decide(decision({"x": (1, "max")}, {"A": (3,)}))

    assert (answer.verdict, answer.winner, answer.flip) == ("decided", "A", None)


@pytest.mark.parametrize("method", METHOD_NAMES)
@pytest.mark.parametrize("unit", [1e15, 1e-15, 1e-160, 1e-300])
def test_the_unit_of_a_criterion_does_not_matter(method: MethodName, unit: float) -> None:
    def scores(of: float) -> list[float]:
        rows = {"A": (0.25 * of, 3), "B": (0.5 * of, 2), "C": (1.0 * of, 1)}
        inputs = decision({"x": (1, "max"), "y": (2, "max")}, rows, method)
        return [row.score for row in decide(inputs).ranking]

    assert scores(unit) == pytest.approx(scores(1.0), rel=1e-8)


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_numbers_at_the_bounds_stay_finite(method: MethodName) -> None:
    inputs = decision(
        {"x": (1e15, "max"), "y": (1e-15, "min")},
        {"A": (-1e15, 1e15), "B": (1e15, -1e15), "C": (5e-324, 0), "D": (1e15, 1e15)},
        method,
    )

    answer = decide(inputs)

    assert answer.winner == "B"
    assert all(math.isfinite(row.score) and 0 <= row.score <= 1 for row in answer.ranking)


@pytest.mark.parametrize(
    ("score", "nine_digits"),
    [
        (0.0, 0.0),
        (1.0, 1.0),
        (2 / 3, 0.666666667),
        (0.1 + 0.2, 0.3),
        (1.23456789449e-7, 1.23456789e-7),
    ],
)
def test_rounding_is_to_nine_significant_digits(score: float, nine_digits: float) -> None:
    assert rounded(score) == nine_digits
