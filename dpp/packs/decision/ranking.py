"""The order of the options, and whether it has a winner.

Rounded scores decide. Among options of one score those that fewer others dominate come first, so
that none comes before or beside one that dominates it; what is still equal shares a rank, in the
order of the inputs.
"""

from collections import Counter
from collections.abc import Sequence

from dpp.packs.decision.dominance import first_of
from dpp.packs.decision.model import Row, Verdict
from dpp.packs.decision.table import Table


def rank(
    options: Sequence[str], scores: Sequence[float], dominators: Sequence[int]
) -> tuple[Row, ...]:
    """Return the ranking, best first; ranks count places, as in sports (1, 1, 3)."""
    keys = [(-score, by.bit_count()) for score, by in zip(scores, dominators, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)  # stable: then the order of the inputs
    sharing = Counter(keys)
    rank_of: dict[tuple[float, int], int] = {}
    for place, option in enumerate(order, 1):
        rank_of.setdefault(keys[option], place)
    return tuple(
        Row(
            option=options[i],
            score=scores[i],
            rank=rank_of[keys[i]],
            tied=sharing[keys[i]] > 1,
            dominated_by=None if (by := first_of(dominators[i])) is None else options[by],
        )
        for i in order
    )


def verdict_of(table: Table, ranking: Sequence[Row]) -> Verdict:
    """Say whether there is a winner. An option that could not be scored might have been it."""
    if table.missing_count or not ranking:
        return "undetermined"
    return "tie" if ranking[0].tied else "decided"
