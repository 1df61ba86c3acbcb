"""All seeded bugs: those that such systems have had, and one for each rule that money hangs on."""

from __future__ import annotations

from tests.fault.mutants import (
    aside,
    books,
    claims,
    commits,
    endings,
    hints,
    intake,
    leases,
    recovery,
    results,
    retention,
    webhooks,
)
from tests.fault.mutants.bug import Bug

BUGS: tuple[Bug, ...] = (
    *leases.BUGS,
    *claims.BUGS,
    *recovery.BUGS,
    *endings.BUGS,
    *commits.BUGS,
    *results.BUGS,
    *intake.BUGS,
    *books.BUGS,
    *retention.BUGS,
    *webhooks.BUGS,
    *hints.BUGS,
    *aside.BUGS,
)
