"""Watches: what a node hears of its runs, and what it tells, in one look at the database."""

from uuid import UUID

from attrs import frozen

from dpp.leases import Fence
from dpp.money import Micros
from dpp.runs import Run


@frozen(kw_only=True)
class RunEvent:
    """Progress or a charge, numbered by its attempt; kept while that holds its run."""

    fence: Fence
    tenant_id: str
    n: int
    kind: str
    fraction: float | None = None
    note: str | None = None
    amount: Micros | None = None


@frozen
class Watch:
    """A run that somebody waits for."""

    tenant_id: str
    run_id: UUID


@frozen
class Changes:
    """`canceled`: executed here, and a cancel was asked.

    `runs`: every watched run that is still there, as it is.
    """

    canceled: tuple[UUID, ...]
    runs: tuple[Run, ...]
