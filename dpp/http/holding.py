"""Held requests: how many waits and streams each tenant has on this node.

A connection that waits costs its tenant nothing, and the node has so many of them: without a bound
one tenant could have them all, and nobody else would get in.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from attrs import define, field

from dpp.http.problems import Problem, over_quota

HELD: Final = "held"
RETRY_S: Final = 5  # waits last a minute at most, so places come free
SHARE: Final = 2  # half of the connections for one tenant, the other half for all others


@define(eq=False)
class Holding:
    """Counts them; `most`: of one tenant."""

    most: int = 1_000
    _held: Counter[str] = field(factory=Counter, init=False)

    def refusal(self, tenant_id: str) -> Problem | None:
        """Say that a tenant has all that it may; None = there is room."""
        if self._held[tenant_id] < self.most:
            return None
        detail = f"this node holds at most {self.most} waits and streams of a tenant at a time"
        return over_quota(HELD, detail, RETRY_S)

    def come(self, tenant_id: str) -> None:
        """Count one more."""
        self._held[tenant_id] += 1

    def leave(self, tenant_id: str) -> None:
        """Count one less."""
        self._held[tenant_id] -= 1
        if not self._held[tenant_id]:
            del self._held[tenant_id]

    @contextmanager
    def place(self, tenant_id: str) -> Iterator[None]:
        """Count one for the length of this."""
        self.come(tenant_id)
        try:
            yield
        finally:
            self.leave(tenant_id)
