"""What a decision may be asked with, and what it costs."""

from typing import Any

import pytest

from dpp.money import Micros
from dpp.packs import members as members_of
from dpp.packs.decision import model
from dpp.packs.decision.analysis import decide
from dpp.packs.decision.model import CELLS_MAX, DecisionInputs
from dpp.packs.decision.pack import DECISION
from dpp.packs.decision.table import MISSING_MAX
from dpp.packs.inputs import ERRORS_MAX, structure
from dpp.pricing import Appraised, InputError, InputsInvalid

COST = {"name": "cost", "weight": 2, "direction": "min"}
RANGE = {"name": "range", "weight": 1, "direction": "max"}


def asked(**members: object) -> dict[str, Any]:
    return {"question": "Which?", **members}


def errors(**members: object) -> list[tuple[str, str]]:
    answer = DECISION.appraise(asked(**members))
    assert isinstance(answer, InputsInvalid)
    return [(error.pointer, error.message) for error in answer.errors]


def missing(**members: object) -> tuple[str, ...]:
    inputs = structure(asked(**members), DecisionInputs)
    assert isinstance(inputs, DecisionInputs)
    decision = decide(inputs)
    assert decision.verdict == ("undetermined" if decision.missing else "decided")
    assert decision.missing_count == len(decision.missing)
    return decision.missing


@pytest.mark.parametrize(
    ("members", "price"),
    [
        ({}, 10_000),
        ({"options": ["A", "B", "C"]}, 10_000),
        ({"options": ["A", "B", "C"], "criteria": [COST, RANGE]}, 10_006),
    ],
)
def test_the_price_is_known_and_is_the_floor(members: dict[str, object], price: int) -> None:
    assert DECISION.appraise(asked(**members)) == Appraised(Micros(price), Micros(price))


def test_cells_are_bounded_together() -> None:
    criteria = [{"name": f"c{i}", "weight": 1, "direction": "max"} for i in range(1_000)]
    options = [f"o{i}" for i in range(1_001)]

    assert errors(options=options, criteria=criteria) == [
        ("/inputs/options", f"options × criteria must be at most {CELLS_MAX}, here 1001000")
    ]
    assert DECISION.appraise(asked(options=options[1:], criteria=criteria)) == Appraised(
        Micros(1_010_000), Micros(1_010_000)
    )


@pytest.mark.parametrize(
    ("members", "at", "message"),
    [
        ({"question": ""}, "/question", "must not be empty"),
        ({"question": "x" * 10_001}, "/question", "must have at most 10000 characters"),
        ({"options": ["A", ""]}, "/options/1", "must not be empty"),
        ({"options": ["A" * 201]}, "/options/0", "must have at most 200 characters"),
        ({"options": ["A", "B", "A"]}, "/options/2", "is listed twice"),
        ({"options": ["o"] * 10_001}, "/options", "must have at most 10000 items"),
        ({"options": None}, "/options", "must be an array"),
        ({"criteria": [COST] * 1_001}, "/criteria", "must have at most 1000 items"),
        ({"criteria": [COST, RANGE, COST]}, "/criteria/2/name", "is listed twice"),
        ({"criteria": [COST | {"weight": 0}]}, "/criteria/0/weight", "must be at least 1e-15"),
        ({"criteria": [COST | {"weight": -1}]}, "/criteria/0/weight", "must be at least 1e-15"),
        ({"criteria": [COST | {"weight": 2e15}]}, "/criteria/0/weight", "must be at most 1e+15"),
        ({"criteria": [COST | {"weight": True}]}, "/criteria/0/weight", "must be a number"),
        ({"criteria": [COST | {"up": 1}]}, "/criteria/0/up", "is not a member of these inputs"),
        (
            {"criteria": [COST | {"direction": "up"}]},
            "/criteria/0/direction",
            'must be one of "max", "min"',
        ),
        ({"method": "magic"}, "/method", 'must be one of "weighted_sum", "topsis"'),
        (
            {"options": ["A"], "scores": {"B/C": {}}},
            "/scores/B~1C",
            "is not among the options",
        ),
        (
            {"options": ["A"], "criteria": [COST], "scores": {"A": {"cost": 1, "~": 2}}},
            "/scores/A/~0",
            "is not among the criteria",
        ),
        ({"scores": {"A": {"cost": 1e16}}}, "/scores/A/cost", "must be at most 1e+15"),
        ({"scores": {"A": {"cost": "1"}}}, "/scores/A/cost", "must be a number"),
        ({"scores": {"A": [1]}}, "/scores/A", "must be an object"),
    ],
)
def test_each_wrong_value_is_named(members: dict[str, object], at: str, message: str) -> None:
    assert errors(**members) == [(f"/inputs{at}", message)]


def test_what_contradicts_itself_is_named_all_at_once() -> None:
    found = errors(
        options=["A", "A"],
        criteria=[COST, COST],
        scores={"A": {"cost": 1, "x": 2, "y": 3}, "B": {"x": 1}},
    )

    assert [at for at, _ in found] == [
        "/inputs/options/1",
        "/inputs/criteria/1/name",
        "/inputs/scores/A/x",
        "/inputs/scores/A/y",
        "/inputs/scores/B",
    ]


@pytest.mark.parametrize(
    "members",
    [
        {"scores": {f"o{i}": {f"{j}": "" for j in range(990)} for i in range(10)}},
        {"scores": {"x" * 100_000: {f"{j}": "" for j in range(9_000)}}},
        {"criteria": [COST], "scores": {"A" * 9_999: {f"{j}" * 999: 1 for j in range(999)}}},
        {"options": ["A"], "scores": {f"{i}" * 999: {} for i in range(9_999)}},
        {"options": ["A"] * 9_999},
        {"criteria": [COST] * 999},
    ],
)
def test_however_much_is_wrong_little_is_said_and_looked_for(
    members: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[InputError] = []

    def make(pointer: str, message: str) -> InputError:
        made.append(InputError(pointer, message))
        return made[-1]

    monkeypatch.setattr(members_of, "InputError", make)
    monkeypatch.setattr(model, "InputError", make)

    found = errors(**members)

    assert len(found) == ERRORS_MAX
    assert len(made) <= ERRORS_MAX + 2
    assert sum(len(at) + len(message) for at, message in found) < 20_000


@pytest.mark.parametrize(
    ("members", "lacking"),
    [
        ({}, ("/options", "/criteria", "/scores")),
        ({"options": ["A"]}, ("/criteria", "/scores")),
        ({"criteria": [COST]}, ("/options", "/scores")),
        ({"scores": {"A": {"cost": 1}}}, ("/options", "/criteria")),
        ({"options": ["A", "B"], "criteria": [COST]}, ("/scores",)),
        ({"options": ["A", "B"], "criteria": [COST], "scores": {"A": {"cost": 1}}}, ("/scores/B",)),
        (
            {
                "options": ["A", "B/", "C"],
                "criteria": [COST, RANGE],
                "scores": {"A": {"cost": 1, "range": 2}, "B/": {"range": 1}, "C": {}},
            },
            ("/scores/B~1/cost", "/scores/C"),
        ),
        ({"options": ["A"], "criteria": [COST], "scores": {"A": {"cost": 1}}}, ()),
    ],
)
def test_what_is_missing_is_named(members: dict[str, object], lacking: tuple[str, ...]) -> None:
    assert missing(**members) == lacking


def test_complete_options_are_ranked_beside_incomplete_ones() -> None:
    inputs = structure(
        asked(
            options=["A", "B", "C"],
            criteria=[COST],
            scores={"A": {"cost": 3}, "C": {"cost": 1}},
        ),
        DecisionInputs,
    )
    assert isinstance(inputs, DecisionInputs)

    answer = decide(inputs)

    assert (answer.verdict, answer.winner, answer.flip) == ("undetermined", None, None)
    assert [(row.option, row.rank) for row in answer.ranking] == [("C", 1), ("A", 2)]
    assert answer.missing == ("/scores/B",)


def test_a_long_list_of_what_is_missing_is_cut_and_counted() -> None:
    inputs = DecisionInputs(
        question="Which?",
        options=tuple(f"o{i}" for i in range(MISSING_MAX + 7)),
        criteria=structure(asked(criteria=[COST]), DecisionInputs).criteria,  # type: ignore[union-attr]
        scores={"o0": {"cost": 1}},
    )

    answer = decide(inputs)

    assert len(answer.missing) == MISSING_MAX
    assert answer.missing_count == MISSING_MAX + 6
