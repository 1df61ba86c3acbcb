"""The smallest change of one weight that takes the first rank from the winner.

For each criterion and each rival there is a closed form of the change at which the rival draws
level, all other weights as they are. For `weighted_sum` the gap is linear in a weight w; for
`topsis` the squared distances are linear in w², which makes drawing level a quadratic equation.
So the search is exact: every threshold is found.

At a threshold two scores are equal; past it they must differ in the digits that are compared. So
the nearest thresholds are confirmed with the real scores: by doubling and halving, the change is
made as much longer as it takes until the rounded scores say that the rival is ahead. It is written
with nine digits, rounded away from zero, or in full where that would not flip. Precision, then: the
reported change flips the winner, and lies past the exact threshold by what nine digits of a score
need to show it. A change that would take a weight out of the bounds of the inputs is none. Of
`topsis`, a flip that leaves less than 1e-7 of a weight may be missed: its square drowns in doubles.
"""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from decimal import ROUND_UP, Context, Decimal
from heapq import nsmallest
from typing import NamedTuple, TypeAlias

from dpp.packs.decision.methods import DIGITS, METHODS, Cells, Method, Weights, distances, rounded
from dpp.packs.decision.model import NUMBER_MAX, WEIGHT_MIN, Flip, MethodName
from dpp.packs.decision.table import CELLS_A_STEP, Table

CONFIRMED_MAX = 16  # thresholds tried in earnest: many only where some lie within a billionth
DOUBLINGS_MAX = 200  # from a billionth of the least weight to the largest number
NOISE = 1e-16  # of the whole: a lead that the ranking shows and doubles do not is taken for this
HALVINGS = 30  # of the last doubling: to the 1e-9 part of the way past the threshold

Change: TypeAlias = tuple[int, float]  # of the weight of a criterion, by its place

_nine_digits = Context(prec=DIGITS, rounding=ROUND_UP)


class Threshold(NamedTuple):
    """Where a rival draws level; they sort by nearness, then in the order of the inputs."""

    size: float
    criterion: int
    rival: int
    change: float


def find_flip(
    table: Table, name: MethodName, rows: Sequence[Cells], winner: int
) -> Generator[float, None, Flip | None]:
    """Return the smallest change that flips the winner, or None; yield the share that is done."""
    weights = table.weights
    changes = CHANGES[name](rows[winner], weights)
    nearest: list[Threshold] = []
    rivals_a_step = max(1, CELLS_A_STEP // len(weights))
    for rival, row in enumerate(rows):
        if rival != winner:
            found = (Threshold(abs(t), c, rival, t) for c, t in changes(row))
            legal = (at for at in found if _legal(weights[at.criterion] + at.change))
            nearest = nsmallest(CONFIRMED_MAX, [*nearest, *legal])
        if (rival + 1) % rivals_a_step == 0:
            yield (rival + 1) / len(rows)
    flips = [
        (abs(change), at, change)
        for at in nearest
        if (change := _confirm(at, weights, METHODS[name], rows[winner], rows[at.rival]))
    ]
    if not flips:
        return None
    _, at, change = min(flips)
    return Flip(table.criteria[at.criterion].name, change, table.options[at.rival])


def _legal(weight: float) -> bool:
    return WEIGHT_MIN <= weight <= NUMBER_MAX


def _confirm(
    at: Threshold, weights: Weights, method: Method, winner: Cells, rival: Cells
) -> float | None:
    """Return the least change from the threshold on that puts the rival ahead, or None."""
    trial = list(weights)
    weight = weights[at.criterion]

    def ahead(change: float) -> bool:
        trial[at.criterion] = weight + change
        if not _legal(weight + change):
            return False
        return rounded(method.score(rival, trial)) > rounded(method.score(winner, trial))

    change = _first_ahead(at.change, weight, ahead)
    if change is None:
        return None
    short = float(_nine_digits.create_decimal(Decimal(change)))
    return short if ahead(short) else change


def _first_ahead(level: float, weight: float, ahead: Callable[[float], bool]) -> float | None:
    """Double the way past `level` until the rival is ahead, then halve it back."""
    if ahead(level):
        return level
    grows = level > 0
    bound = (NUMBER_MAX - 1 if grows else 2 * WEIGHT_MIN) - weight  # inside, whatever is rounded
    step = math.copysign(1e-9 * max(WEIGHT_MIN, min(abs(level), weight + level)), level)
    low, high = level, level + step
    for _ in range(DOUBLINGS_MAX):
        if ahead(high):
            break
        if high == bound:
            return None
        low, step = high, 2 * step
        high = min(level + step, bound) if grows else max(level + step, bound)
    else:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if ahead(middle) else (middle, high)
    return high


def weighted_changes(winner: Cells, weights: Weights) -> Callable[[Cells], Iterator[Change]]:
    """Return what yields, for a rival, the change of each weight at which it draws level.

    With t added to a weight the lead is gap + t·ahead, where `ahead` is the lead on that criterion.
    """
    whole = math.fsum(weights)

    def changes(rival: Cells) -> Iterator[Change]:
        aheads = [a - b for a, b in zip(winner, rival, strict=True)]
        gap = math.fsum(w * ahead for w, ahead in zip(weights, aheads, strict=True))
        gap = max(gap, NOISE * whole)
        for criterion, ahead in enumerate(aheads):
            if ahead:
                yield criterion, -gap / ahead

    return changes


def topsis_changes(winner: Cells, weights: Weights) -> Callable[[Cells], Iterator[Change]]:
    """Return what yields, for a rival, the changes of each weight at which it draws level.

    The winner leads while far·rival_near - rival_far·near > 0, in squared distances from best
    (near) and worst (far). Each is linear in the square of a weight, so with δ added to that
    square the lead is gap + slope·δ + bend·δ².
    """
    count = len(weights)
    near, far = distances(winner, weights)

    def changes(rival: Cells) -> Iterator[Change]:
        rival_near, rival_far = distances(rival, weights)
        gain, loss = far * rival_near, rival_far * near
        gap = max(gain - loss, NOISE * (gain + loss))
        for criterion, weight in enumerate(weights):
            n, f = winner[criterion], winner[count + criterion]
            rn, rf = rival[criterion], rival[count + criterion]
            slope = far * rn + f * rival_near - rival_far * n - rf * near
            for delta in crossings(f * rn - rf * n, slope, gap):
                square = weight * weight + delta
                if delta and square > 0:
                    yield criterion, delta / (math.sqrt(square) + weight)

    return changes


CHANGES = {"weighted_sum": weighted_changes, "topsis": topsis_changes}


def crossings(a: float, b: float, c: float) -> Iterator[float]:
    """Yield where a·x² + b·x + c changes its sign. A double root only touches: it is none."""
    square = b * b - 4 * a * c
    if square <= 0:
        return
    q = -(b + math.copysign(math.sqrt(square), b)) / 2  # no difference of near equals
    if a:
        yield q / a
    if q:
        yield c / q
