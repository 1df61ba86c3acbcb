"""Plans: what a tenant may do. Operators set them; the core gets one frozen value.

`None` means no limit everywhere here. What spends (submits, queued and concurrent runs) is counted
in the intake's or the claim's transaction and is exact across nodes.
"""

from collections.abc import Mapping
from typing import TypeAlias

from attrs import field, frozen

from dpp.money import Micros
from dpp.pricing import FeeRule

WINDOW_S = 60  # rates are per minute; the window starts with the first admitted submission in it


@frozen
class Plan:
    """The limits and the fee rule of one plan."""

    name: str
    submits_per_minute: int | None = None
    reads_per_minute: int | None = None
    concurrent_runs: int | None = None
    queued_runs: int | None = None
    max_cost: Micros | None = None
    packs: frozenset[str] | None = None
    fee: FeeRule = field(factory=FeeRule)
    weight: int = 1
    max_cost_by_pack: Mapping[str, Micros] = field(factory=dict)
    spend_per_day: Micros | None = None
    spend_per_month: Micros | None = None
    result_days: int | None = None  # how long results are served; None = as the node says

    def max_cost_of(self, pack_type: str) -> Micros | None:
        """Return the most that one run of this pack may reserve."""
        limits = [
            limit
            for limit in (self.max_cost, self.max_cost_by_pack.get(pack_type))
            if limit is not None
        ]
        return min(limits, default=None)


Plans: TypeAlias = Mapping[str, Plan]
