"""What a reload may change while the node runs: a value that is read anew at each step.

Whoever uses one gets the holder and asks for `now`; the value is frozen and swapped whole, so no
step sees half of a reload.
"""

from typing import Generic, TypeVar

from attrs import define, frozen

T = TypeVar("T")


@define(eq=False)
class Live(Generic[T]):
    """A value as it stands now."""

    now: T


@frozen
class Pace:
    """How often a loop makes a pass, in seconds, and how much a page of it looks at."""

    interval_s: float
    scan_limit: int
