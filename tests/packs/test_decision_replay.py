"""Replaying a proof: with DPP, and by the book.

`by_the_book` is written from docs/packs.md alone, without any code of the pack, and must come to
the same bytes; the flip, whose search it does not repeat, is taken over and is judged elsewhere.
"""

import json
import math
from hashlib import sha256
from typing import Any, TypeAlias

import pytest
from attrs import asdict, evolve
from hypothesis import given

from dpp.packs.decision.analysis import ReplayMismatch, decide, replay
from dpp.packs.decision.model import DecisionInputs
from dpp.packs.inputs import structure
from dpp.packs.results import encode
from tests.packs.decisions import decision, decisions

Criteria: TypeAlias = list[dict[str, Any]]
Scores: TypeAlias = dict[str, dict[str, float]]

INPUTS = asdict(decision({"x": (2, "max"), "y": (1, "min")}, {"A": (3, 4), "B": (4, 3)}, "topsis"))


def as_sent(inputs: DecisionInputs) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(json.dumps(asdict(inputs)))
    return sent


def result_of(sent: object) -> dict[str, Any]:
    inputs = structure(sent, DecisionInputs)
    assert isinstance(inputs, DecisionInputs)
    result: dict[str, Any] = json.loads(encode(asdict(decide(inputs))))
    return result


@given(decisions())
def test_a_proof_replays_to_the_same_bytes(inputs: DecisionInputs) -> None:
    result = encode(asdict(decide(inputs)))

    again = replay(as_sent(inputs), json.loads(result)["proof"])

    assert again == result


@given(decisions())
def test_a_proof_replays_by_the_book(inputs: DecisionInputs) -> None:
    result = encode(asdict(decide(inputs)))

    again = by_the_book(as_sent(inputs), json.loads(result))

    assert again == result


def test_a_question_alone_replays() -> None:
    sent = {"question": "Which?"}
    result = result_of(sent)

    assert json.loads(replay(sent, result["proof"])) == result
    assert by_the_book(sent, result) == encode(result)


def test_spelling_does_not_matter_to_the_proof() -> None:
    sent = json.loads(json.dumps(INPUTS))
    proof = result_of(sent)["proof"]
    whole = json.loads(json.dumps(INPUTS).replace(".0", ""))
    turned = dict(reversed(whole.items()))

    assert replay(turned, proof) == replay(sent, proof)


def test_the_default_method_is_part_of_the_proof() -> None:
    short = {k: v for k, v in INPUTS.items() if k != "method"}
    sent, named = json.loads(json.dumps([short, short | {"method": "weighted_sum"}]))

    assert result_of(sent)["proof"] == result_of(named)["proof"]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"question": "What?"}, "inputs_sha256"),
        ({"options": ["B", "A"]}, "inputs_sha256"),
        ({"method": "weighted_sum"}, "inputs_sha256, method, normalisation"),
    ],
)
def test_other_inputs_do_not_fit_the_proof(change: dict[str, Any], differs: str) -> None:
    sent = json.loads(json.dumps(INPUTS))
    proof = result_of(sent)["proof"]

    with pytest.raises(ReplayMismatch, match=f"differs in {differs}"):
        replay(sent | change, proof)


def test_another_version_is_not_replayed() -> None:
    sent = json.loads(json.dumps(INPUTS))
    proof = result_of(sent)["proof"] | {"pack_version": "0.9"}

    with pytest.raises(ReplayMismatch, match="differs in pack_version"):
        replay(sent, proof)


@pytest.mark.parametrize(
    "sent", [None, {}, {"question": 1}, {"question": "q", "options": ["A", "A"]}]
)
def test_what_is_no_decision_is_not_replayed(sent: object) -> None:
    with pytest.raises(ReplayMismatch, match="no inputs of a decision"):
        replay(sent, {})


def test_these_bytes_have_not_changed() -> None:
    """A change here is a new version of the pack: proofs that were given must go on replaying."""
    hashes = {
        method: sha256(encode(asdict(decide(evolve(VANS, method=method))))).hexdigest()
        for method in ("weighted_sum", "topsis")
    }

    assert hashes == {
        "weighted_sum": "17726741e1249028cd98afb5da82d00d2a24917e11d61e47268816dc6419c1bf",
        "topsis": "05acfb470c8c159777866010f46547a39c15c8ea9428cec589567bba367acee1",
    }


VANS = decision(
    {"price": (3, "min"), "range": (1, "max"), "height": (0.7, "min")},
    {
        "Alder": (100, 9, 2.1),
        "Birch": (80, 5, 1.9),
        "Cedar": (90, 8, 2.3),
        "Dogwood": (95, 7, 2.4),
        "Elm": (85, 5.5, 1.95),
    },
)


def by_the_book(sent: dict[str, Any], result: dict[str, Any]) -> bytes:
    inputs = {"options": [], "criteria": [], "scores": {}, "method": "weighted_sum"} | sent
    for criterion in inputs["criteria"]:
        criterion["weight"] = float(criterion["weight"])
    scores = {o: {c: float(x) for c, x in row.items()} for o, row in inputs["scores"].items()}
    canonical = json.dumps(
        inputs | {"scores": scores}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    ranking = ranking_by_the_book(inputs, scores) if inputs["options"] else []
    top = [row for row in ranking if row["rank"] == 1]
    missing = [f"/{name}" for name in ("options", "criteria", "scores") if not inputs[name]]
    verdict = "undetermined" if missing else "decided" if len(top) == 1 else "tie"
    book = {
        "verdict": verdict,
        "winner": top[0]["option"] if verdict == "decided" else None,
        "ranking": ranking,
        "flip": result["flip"],
        "dominated": [row["option"] for row in ranking if row["dominated_by"] is not None],
        "missing": missing,
        "missing_count": len(missing),
        "proof": result["proof"] | {"inputs_sha256": sha256(canonical.encode()).hexdigest()},
    }
    return json.dumps(book, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def ranking_by_the_book(inputs: dict[str, Any], scores: Scores) -> list[dict[str, Any]]:
    options, criteria = inputs["options"], inputs["criteria"]
    score = {"weighted_sum": weighted_by_the_book, "topsis": topsis_by_the_book}[inputs["method"]]
    found = {o: float(f"{score(o, options, criteria, scores):.8e}") for o in options}

    def dominates(a: str, b: str) -> bool:
        leads = [
            (scores[a][c["name"]] - scores[b][c["name"]]) * (1 if c["direction"] == "max" else -1)
            for c in criteria
        ]
        return min(leads) >= 0 and max(leads) > 0

    by = {b: [a for a in options if dominates(a, b)] for b in options}
    key = {o: (-found[o], len(by[o])) for o in options}
    return [
        {
            "option": o,
            "score": found[o],
            "rank": 1 + sum(1 for other in options if key[other] < key[o]),
            "tied": sum(1 for other in options if key[other] == key[o]) > 1,
            "dominated_by": by[o][0] if by[o] else None,
        }
        for o in sorted(options, key=lambda o: key[o])
    ]


def weighted_by_the_book(
    option: str, options: list[str], criteria: Criteria, scores: Scores
) -> float:
    products = []
    for c in criteria:
        column = [scores[o][c["name"]] for o in options]
        low, high, x = min(column), max(column), scores[option][c["name"]]
        if low == high:
            value = 1.0
        else:
            value = ((x - low) if c["direction"] == "max" else (high - x)) / (high - low)
        products.append(c["weight"] * value)
    return math.fsum(products) / math.fsum(c["weight"] for c in criteria)


def topsis_by_the_book(
    option: str, options: list[str], criteria: Criteria, scores: Scores
) -> float:
    near, far = [], []
    for c in criteria:
        column = {o: scores[o][c["name"]] for o in options}
        largest = max(abs(x) for x in column.values())
        if largest:
            column = {o: x / largest for o, x in column.items()}
            length = math.sqrt(math.fsum(x * x for x in column.values()))
            column = {o: x / length for o, x in column.items()}
        best, worst = max(column.values()), min(column.values())
        if c["direction"] == "min":
            best, worst = worst, best
        x, square = column[option], c["weight"] * c["weight"]
        near.append(square * ((x - best) * (x - best)))
        far.append(square * ((x - worst) * (x - worst)))
    if math.fsum(near) == 0:
        return 1.0
    if math.fsum(far) == 0:
        return 0.0
    return 1 / (1 + math.sqrt(math.fsum(near)) / math.sqrt(math.fsum(far)))
