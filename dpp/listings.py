"""Lists of runs: what a tenant may ask for, and a page of it, newest first.

A filter that matches little must not read a tenant's whole history in one go: a page looks at a
bounded number of submissions, so it may hold fewer runs than were asked for, or none, and still
have a next one.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from attrs import frozen

from dpp.runs import Run, Status

LOOKED_MAX: Final = 2000  # submissions a page looks at: some 20 ms of index probes


@frozen(kw_only=True)
class RunFilter:
    """All that is given must match; times are of `created_at`, after inclusive, before not."""

    status: Status | None = None
    pack_type: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    idempotency_key: str | None = None

    def matches(self, run: Run) -> bool:
        """Say whether a run is asked for."""
        return (
            self.status in {None, run.status}
            and self.pack_type in {None, run.pack_type}
            and (self.created_after is None or run.created_at >= self.created_after)
            and (self.created_before is None or run.created_at < self.created_before)
            and self.idempotency_key in {None, run.idempotency_key}
        )


EVERYTHING: Final = RunFilter()


@frozen
class RunPage:
    """Runs, and where the next page begins: older than this one; None = there is none."""

    runs: tuple[Run, ...]
    next_before: UUID | None
