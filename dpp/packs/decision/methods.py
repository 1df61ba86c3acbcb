"""The two ways to score options: `weighted_sum` and `topsis`.

A method prepares the table once, without the weights, into one row of numbers an option; a score
is then a function of row and weights. So the search for a flip asks the very same function, and
what it reports holds for the ranking bit by bit.

All of it is IEEE double arithmetic in a stated order with `fsum` for sums (exactly rounded, hence
without regard to order) and `sqrt` (correctly rounded): every machine gets the same bits. Each
step is monotone, so a dominated option never scores higher than the one that dominates it.
"""

import math
from collections.abc import Callable, Generator, Sequence
from operator import mul
from typing import TypeAlias

from attrs import frozen

from dpp.packs.decision.model import Direction, MethodName
from dpp.packs.decision.table import CELLS_A_STEP, Column, Table

Weights: TypeAlias = Sequence[float]
Cells: TypeAlias = tuple[float, ...]

DIGITS = 9  # of a score, before comparing and printing: far inside what doubles compute the same


@frozen
class Method:
    """A way to score options: rows free of weights, then a score from 0 to 1, unrounded."""

    normalisation: str
    prepare: Callable[[Table], list[Cells]]
    score: Callable[[Cells, Weights], float]


def score_options(
    method: Method, rows: Sequence[Cells], weights: Weights
) -> Generator[float, None, list[float]]:
    """Return the rounded score of each row; yield the share that is done, once a step."""
    rows_a_step = max(1, CELLS_A_STEP // len(weights))
    scores: list[float] = []
    for row in rows:
        scores.append(rounded(method.score(row, weights)))
        if len(scores) % rows_a_step == 0:
            yield len(scores) / len(rows)
    return scores


def rounded(score: float) -> float:
    """Round to `DIGITS` significant digits: the only form that is compared or printed."""
    return float(f"{score:.{DIGITS - 1}e}")


def weighted_rows(table: Table) -> list[Cells]:
    """Stretch each criterion to 0 … 1 between its worst and its best score."""
    columns = zip(table.columns, table.criteria, strict=True)
    stretched = [stretch(column, criterion.direction) for column, criterion in columns]
    return list(zip(*stretched, strict=True))


def weighted_score(row: Cells, weights: Weights) -> float:
    """Return the weighted mean of the row."""
    return math.fsum(map(mul, weights, row)) / math.fsum(weights)


def topsis_rows(table: Table) -> list[Cells]:
    """Square the distances from the best and from the worst score of each criterion.

    Columns are divided by their length first. A row holds all distances from the best, then all
    from the worst.
    """
    from_best, from_worst = [], []
    for column, criterion in zip(table.columns, table.criteria, strict=True):
        scaled = unit(column)
        low, high = min(scaled), max(scaled)
        best, worst = (high, low) if criterion.direction == "max" else (low, high)
        from_best.append(tuple((x - best) * (x - best) for x in scaled))
        from_worst.append(tuple((x - worst) * (x - worst) for x in scaled))
    return list(zip(*from_best, *from_worst, strict=True))


def topsis_score(row: Cells, weights: Weights) -> float:
    """Return the closeness to the best: worst / (best + worst), of the two distances.

    Computed as 1 / (1 + best / worst), each step of which is monotone when it is rounded.
    """
    from_best, from_worst = distances(row, weights)
    if from_best == 0:
        return 1.0
    if from_worst == 0:
        return 0.0
    return 1 / (1 + math.sqrt(from_best) / math.sqrt(from_worst))


def distances(row: Cells, weights: Weights) -> tuple[float, float]:
    """Return the squared distances from best and worst. Linear in the square of each weight."""
    squares = [w * w for w in weights]
    from_best = math.fsum(map(mul, squares, row))  # map ends with the weights: half the row
    from_worst = math.fsum(map(mul, squares, row[len(weights) :]))
    return from_best, from_worst


def stretch(column: Column, direction: Direction) -> Column:
    """Bring the column between 0 (worst) and 1 (best). Where all are alike, all are best."""
    low, high = min(column), max(column)
    span = high - low
    if span == 0:
        return (1.0,) * len(column)
    if direction == "max":
        return tuple((x - low) / span for x in column)
    return tuple((high - x) / span for x in column)


def unit(column: Column) -> Column:
    """Divide the column by its length (Euclidean); first by its largest: no square is lost."""
    most = max(map(abs, column))
    if most == 0:
        return column
    scaled = [x / most for x in column]
    length = math.sqrt(math.fsum(x * x for x in scaled))
    return tuple(x / length for x in scaled)


METHODS: dict[MethodName, Method] = {
    "weighted_sum": Method("min-max", weighted_rows, weighted_score),
    "topsis": Method("vector", topsis_rows, topsis_score),
}
