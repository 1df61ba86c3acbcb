"""The rows that are left, as the history checker reads facts."""

from __future__ import annotations

from collections import defaultdict

from tests.fake_rows import Rows
from tests.oracle.history import Ending, Facts, Step, Submission

OF_KIND = {  # what a transfer of 1 does to (available, spent)
    "deposit": (1, 0),
    "withdraw": (-1, 0),
    "refund": (1, -1),
    "adjust": (1, 0),
}


def steps(rows: Rows) -> dict[str, list[Step]]:
    """Return what each fact does to its tenant's budget, by its number."""
    found: dict[str, list[Step]] = defaultdict(list)
    for row in rows.submissions.values():
        cost = row.asked.max_cost
        found[row.asked.tenant_id].append(Step(row.seq, -cost, cost, 0))
    for one in rows.endings.values():
        of = one.ending
        found[of.tenant_id].append(Step(of.seq, of.returned, -of.cost - of.returned, of.cost))
    for moved in rows.transfers.values():
        available, spent = OF_KIND[moved.posting.kind.value]
        amount = moved.posting.amount
        step = Step(moved.seq, available * amount, 0, spent * amount)
        found[moved.posting.tenant_id].append(step)
    return {tenant_id: sorted(mine, key=lambda step: step.seq) for tenant_id, mine in found.items()}


def facts(rows: Rows) -> Facts:
    """Return the facts."""
    return Facts(
        {
            (row.asked.tenant_id, row.asked.idempotency_key): Submission(
                str(run_id), row.seq, row.asked.max_cost
            )
            for run_id, row in rows.submissions.items()
        },
        {
            str(run_id): Ending(
                row.ending.tenant_id, row.ending.seq, row.ending.status.value, row.ending.cost
            )
            for run_id, row in rows.endings.items()
        },
        steps(rows),
    )
