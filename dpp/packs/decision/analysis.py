"""A decision from its inputs, in bounded steps, and the replay of one.

`analyse` is a pure generator: whoever drives it may stop between any two steps, and the same
inputs give the same decision however often it is paused. Nothing here knows threads or money.
"""

from collections.abc import Generator, Mapping
from typing import TypeVar

from attrs import asdict, frozen

from dpp.packs.decision.dominance import find_dominators
from dpp.packs.decision.flip import find_flip
from dpp.packs.decision.methods import METHODS, score_options
from dpp.packs.decision.model import Decision, DecisionInputs, Flip, Row, quote
from dpp.packs.decision.proof import prove
from dpp.packs.decision.ranking import rank, verdict_of
from dpp.packs.decision.table import Table, table_of
from dpp.packs.inputs import structure
from dpp.packs.results import encode
from dpp.pricing import InputsInvalid

Found = TypeVar("Found")


class ReplayMismatch(ValueError):
    """The proof is not about these inputs, or not of this version of the pack."""


@frozen
class Step:
    """How far the analysis is, and what it does next."""

    fraction: float
    note: str


def analyse(inputs: DecisionInputs) -> Generator[Step, None, Decision]:
    """Return the decision; yield once for each 50,000 cells or so of work.

    Reading and preparing are one step each: 0.4 s where there are a million cells.
    """
    yield Step(0.05, "reading the scores")
    table = table_of(inputs)
    if not table.options:
        return _conclude(inputs, table)
    yield Step(0.1, f"preparing {inputs.method}")
    rows = METHODS[inputs.method].prepare(table)
    scoring = score_options(METHODS[inputs.method], rows, table.weights)
    scores = yield from _part(scoring, 0.2, 0.4, f"scoring {len(rows)} options")
    dominators = yield from _part(find_dominators(table), 0.4, 0.6, "looking for dominated options")
    ranking = rank(table.options, scores, dominators)
    if verdict_of(table, ranking) != "decided":
        return _conclude(inputs, table, ranking)
    flipping = find_flip(table, inputs.method, rows, table.options.index(ranking[0].option))
    flip = yield from _part(flipping, 0.6, 0.95, "looking for the smallest change that flips it")
    yield Step(0.95, "writing the proof")
    return _conclude(inputs, table, ranking, flip)


def decide(inputs: DecisionInputs) -> Decision:
    """Return the decision, without a pause."""
    steps = analyse(inputs)
    while isinstance(step := advance(steps), Step):
        pass
    return step


def advance(steps: Generator[Step, None, Decision]) -> Step | Decision:
    """Take one step. The decision is the last; nothing may be asked for after it."""
    try:
        return next(steps)
    except StopIteration as end:
        decision: Decision = end.value
        return decision


def replay(inputs: object, proof: Mapping[str, object]) -> bytes:
    """Return the bytes of the result that `proof` is about; raise `ReplayMismatch` if it is not.

    `inputs` as they were submitted, `proof` as it stands in the result.
    """
    structured = structure(inputs, DecisionInputs)
    if isinstance(structured, InputsInvalid) or isinstance(quote(structured), InputsInvalid):
        raise ReplayMismatch("these are no inputs of a decision")
    mine = asdict(prove(structured))
    differing = sorted(name for name in {*mine, *proof} if mine.get(name) != proof.get(name))
    if differing:
        raise ReplayMismatch(f"the proof differs in {', '.join(differing)}")
    return encode(asdict(decide(structured)))


def _part(
    work: Generator[float, None, Found], start: float, end: float, note: str
) -> Generator[Step, None, Found]:
    """Turn the shares that `work` yields into steps between `start` and `end`."""
    yield Step(start, note)
    while True:
        try:
            share = next(work)
        except StopIteration as done:
            found: Found = done.value
            return found
        yield Step(start + (end - start) * share, note)


def _conclude(
    inputs: DecisionInputs, table: Table, ranking: tuple[Row, ...] = (), flip: Flip | None = None
) -> Decision:
    verdict = verdict_of(table, ranking)
    return Decision(
        verdict=verdict,
        winner=ranking[0].option if verdict == "decided" else None,
        ranking=ranking,
        flip=flip,
        dominated=tuple(row.option for row in ranking if row.dominated_by is not None),
        missing=table.missing,
        missing_count=table.missing_count,
        proof=prove(inputs),
    )
