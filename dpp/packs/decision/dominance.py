"""Options that another beats: at least as good on every criterion, better on one.

Raw scores are compared, not rounded ones. Sets of options are integers, one bit an option: a
million cells take about a second, where comparing pairs would take hours.
"""

from collections.abc import Generator, Sequence
from itertools import groupby

from dpp.packs.decision.table import CELLS_A_STEP, Table


def find_dominators(table: Table) -> Generator[float, None, list[int]]:
    """Return for each option the set of those that dominate it; yield the share that is done."""
    everyone = (1 << len(table.options)) - 1
    at_least_as_good = [everyone] * len(table.options)
    columns_a_step = max(1, CELLS_A_STEP // len(table.options))
    for i, (column, criterion) in enumerate(zip(table.columns, table.criteria, strict=True)):
        sign = 1 if criterion.direction == "max" else -1
        _narrow(at_least_as_good, [sign * x for x in column])
        if (i + 1) % columns_a_step == 0:
            yield (i + 1) / len(table.columns)
    found = zip(at_least_as_good, _alike(table), strict=True)
    return [good & ~same for good, same in found]


def first_of(options: int) -> int | None:
    """Return the first option of a set, in the order of the inputs; None of the empty set."""
    return (options & -options).bit_length() - 1 if options else None


def _narrow(at_least_as_good: list[int], column: Sequence[float]) -> None:
    """Keep in each option's set only those that are as good on this criterion (high is good)."""
    order = sorted(range(len(column)), key=column.__getitem__, reverse=True)
    seen = 0
    for _, group in groupby(order, key=column.__getitem__):
        members = list(group)
        for option in members:
            seen |= 1 << option
        for option in members:
            at_least_as_good[option] &= seen


def _alike(table: Table) -> list[int]:
    """Return for each option the set of those with the same scores throughout, itself included."""
    sets: dict[tuple[float, ...], int] = {}
    rows = list(zip(*table.columns, strict=True))
    for option, row in enumerate(rows):
        sets[row] = sets.get(row, 0) | 1 << option
    return [sets[row] for row in rows]
