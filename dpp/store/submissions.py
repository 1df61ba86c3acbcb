"""Submitting runs: lock budgets → read books → decide → write, one transaction a batch.

A created run is a submission, a live row and a moved budget, or nothing of the three. Asked again
after a lost answer under the same run ids, the books show the earlier rows and the answers are the
same runs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from dpp import admission
from dpp.admission import Account, Admission, Books, Busy, Created, Earlier, Submission, Terms
from dpp.egress import origin
from dpp.metrics import reserved_micros_total, runs_submitted_total
from dpp.modes import InForce, Mode
from dpp.money import Micros
from dpp.plans import WINDOW_S, Plans
from dpp.spending import Allowance, Spending
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import begin_for, transaction


async def submit_runs(
    connection: Connection,
    batch: Sequence[Submission],
    *,
    wait: bool,
    plans: Plans,
    terms: Terms,
) -> list[Admission | Busy]:
    """Admit a batch in one transaction.

    Without `wait`, items of tenants that are held elsewhere come back `Busy`.
    """
    tenant_ids = sorted({submission.tenant_id for submission in batch})
    lock = queries.lock_budgets if wait else queries.lock_budgets_free
    async with transaction(connection, "submit", begin_for(connection, len(batch))):
        budgets = {
            row["tenant_id"]: row for row in await lock.fetch(connection, tenant_ids=tenant_ids)
        }
        assert not wait or len(budgets) == len(tenant_ids), "a tenant without a budget"
        ours = [submission for submission in batch if submission.tenant_id in budgets]
        admissions: list[Admission] = []
        if ours:
            books = await read_books(connection, ours, budgets, plans)
            admissions = admission.decide(ours, books, plans, terms)
            await write_created(connection, ours, admissions, books)
    answers = iter(admissions)
    return [next(answers) if submission.tenant_id in budgets else Busy() for submission in batch]


async def read_books(
    connection: Connection, batch: Sequence[Submission], budgets: dict[str, Row], plans: Plans
) -> Books:
    """Read, in a statement after the lock, all that the decision needs."""
    rows = await queries.read_books.fetch(
        connection,
        tenant_ids=[submission.tenant_id for submission in batch],
        idempotency_keys=[submission.idempotency_key for submission in batch],
        key_ids=list({submission.key_id for submission in batch}),
        plans=list(plans),
        queued_maxes=[plan.queued_runs or 0 for plan in plans.values()],
        notified_ids=sorted({one.tenant_id for one in batch if one.webhook_url is not None}),
    )
    earlier = {
        (row["tenant_id"], key): Earlier(run_id, fingerprint, pruned)
        for row in rows
        for pruned, names in ((True, PRUNED), (False, KNOWN))  # one that is there comes last
        for key, run_id, fingerprint in columns(row, *names)
    }
    return Books(
        accounts={row["tenant_id"]: account(row, budgets[row["tenant_id"]]) for row in rows},
        earlier=earlier,
        dead_keys=frozenset(key_id for row in rows for key_id in row["dead_keys"] or ()),
        now=rows[0]["now"],
        allowances={
            key_id: Allowance(allowance_id, Micros(limit), Micros(used))
            for row in rows
            for key_id, allowance_id, limit, used in columns(
                row, "key_ids", "allowance_ids", "spend_limits", "useds"
            )
        },
        in_force=InForce(Mode(rows[0]["mode"] or Mode.NORMAL), rows[0]["mode_left_s"]),
    )


KNOWN = ("idempotency_keys", "run_ids", "fingerprints")
PRUNED = ("pruned_keys", "pruned_ids", "pruned_fingerprints")


def columns(row: Row, *names: str) -> Iterator[tuple[Any, ...]]:
    """Walk over arrays of one length side by side; null stands for empty ones."""
    return zip(*(row[name] or () for name in names), strict=True)


def account(row: Row, budget: Row) -> Account:
    """Put a tenant's rows together."""
    return Account(
        plan=row["plan"],
        suspended=row["suspended"],
        frozen=row["frozen"],
        available=Micros(budget["available"]),
        seq=budget["seq"],
        queued=row["queued"],
        window_from=budget["window_from"],
        window_count=budget["window_count"],
        spending=Spending(
            budget["spend_day"], Micros(budget["day_spend"]), Micros(budget["month_spend"])
        ),
        origins=frozenset(filter(None, map(origin, row["urls"] or ()))),
    )


async def write_created(
    connection: Connection,
    batch: Sequence[Submission],
    admissions: Sequence[Admission],
    books: Books,
) -> None:
    """Write what was admitted; what the database counts as written must agree."""
    pairs = [(s, a) for s, a in zip(batch, admissions, strict=True) if isinstance(a, Created)]
    if not pairs:
        return
    counts = await queries.write_submissions.fetch_one(
        connection,
        run_ids=[s.run_id for s, _ in pairs],
        tenant_ids=[s.tenant_id for s, _ in pairs],
        seqs=[a.seq for _, a in pairs],
        max_costs=[s.max_cost for s, _ in pairs],
        minimum_fees=[a.minimum_fee for _, a in pairs],
        timeboxes_s=[s.timebox_s for s, _ in pairs],
        priorities=[s.priority for s, _ in pairs],
        pack_types=[s.pack_type for s, _ in pairs],
        pack_versions=[s.pack_version for s, _ in pairs],
        policies=[a.policy for _, a in pairs],
        key_ids=[s.key_id for s, _ in pairs],
        trace_ids=[s.trace_id for s, _ in pairs],
        idempotency_keys=[s.idempotency_key for s, _ in pairs],
        fingerprints=[s.fingerprint for s, _ in pairs],
        inputs=[s.inputs for s, _ in pairs],
        available_ats=[a.available_at for _, a in pairs],
        expires_ats=[a.expires_at for _, a in pairs],
        result_days=[a.result_days for _, a in pairs],
        budget_days=[a.budget_day for _, a in pairs],
        allowance_ids=[a.allowance_id for _, a in pairs],
        metadatas=[None if s.metadata is None else s.metadata.decode() for s, _ in pairs],
        webhook_urls=[s.webhook_url for s, _ in pairs],
        now=books.now,
        window_s=WINDOW_S,
    )
    assert counts is not None
    assert counts["submissions"] == counts["live"] == counts["budgeted"] == len(pairs), dict(counts)
    # To be shown: what is counted here and fails to commit counts too.
    for pack_type, created in Counter(s.pack_type for s, _ in pairs).items():
        runs_submitted_total.labels(pack_type).inc(created)
    reserved_micros_total.inc(sum(s.max_cost for s, _ in pairs))
