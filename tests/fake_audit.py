"""The audit's invariants over the fake store's tables: names and claims are `sql/audit/`'s own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from dpp import resources
from dpp.findings import Audit, Verdict
from dpp.runs import Status
from dpp.settlement import Ending
from dpp.spending import NEVER
from tests.fake_rows import Rows, SubmissionRow, UsageRow, digest

Offenders: TypeAlias = Iterator[dict[str, Any]]


def audit(rows: Rows) -> Audit:
    """Ask every invariant."""
    verdicts = tuple(
        Verdict(name, claim_of(name), tuple(offenders(rows)))
        for name, offenders in sorted(INVARIANTS.items())
    )
    return Audit(verdicts, tuple(one for one in rows.findings if one.resolved_at is None))


def claim_of(name: str) -> str:
    """Return what the file of this name claims."""
    text = (resources.sql_dir() / "audit" / f"{name}.sql").read_text()
    comments = (line for line in text.splitlines() if line.startswith("--"))
    return " ".join(line.removeprefix("--").strip() for line in comments)


def budgets_conserve(rows: Rows) -> Offenders:
    for budget in rows.budgets.values():
        parts = budget.available, budget.held, budget.spent
        if sum(parts) != budget.deposited or min(parts) < 0:
            yield {"tenant_id": budget.tenant_id}


def budgets_equal_ledger(rows: Rows) -> Offenders:
    for tenant_id, budget in rows.budgets.items():
        sums: Counter[str] = Counter()
        spent = 0
        ledger = rows.ledger(tenant_id)
        for fact in ledger:
            sums[fact.kind] += fact.amount
            spent += fact.cost or 0
        deposited = sums["deposit"] - sums["withdraw"] + sums["adjust"]
        spent -= sums["refund"]
        held = sums["reserve"] - sums["settle"] - sums["void"]
        folded = deposited, deposited - held - spent, held, spent
        seqs = [fact.seq for fact in ledger]
        if seqs != list(range(1, budget.seq + 1)) or folded != (
            budget.deposited,
            budget.available,
            budget.held,
            budget.spent,
        ):
            yield {"tenant_id": tenant_id, "folded": folded, "seqs": seqs}


def held_is_unresolved(rows: Rows) -> Offenders:
    unresolved: Counter[str] = Counter()
    for run_id, row in rows.submissions.items():
        if run_id not in rows.endings:
            unresolved[row.asked.tenant_id] += row.asked.max_cost
    for tenant_id, budget in rows.budgets.items():
        if budget.held != unresolved[tenant_id]:
            yield {"tenant_id": tenant_id, "held": budget.held}


def live_or_ended(rows: Rows) -> Offenders:
    for run_id in {*rows.submissions, *rows.live, *rows.endings}:
        if run_id not in rows.submissions or (run_id in rows.live) == (run_id in rows.endings):
            yield {"run_id": str(run_id)}


def reserves_resolved(rows: Rows) -> Offenders:
    for run_id, row in rows.endings.items():
        reserve, ending = rows.submissions[run_id].asked.max_cost, row.ending
        if ending.cost + ending.returned != reserve or min(ending.cost, ending.returned) < 0:
            yield {"run_id": str(run_id)}


def rows_agree(rows: Rows) -> Offenders:
    for run_id, row in rows.submissions.items():
        live, ended = rows.live.get(run_id), rows.endings.get(run_id)
        apart = live is not None and (
            live.max_cost,
            live.minimum_fee,
            live.budget_day,
            live.allowance_id,
        ) != (row.asked.max_cost, row.minimum_fee, row.budget_day, row.allowance_id)
        if apart or (ended is not None and not kind_agrees(ended.ending, row.minimum_fee)):
            yield {"run_id": str(run_id)}


def kind_agrees(ending: Ending, minimum_fee: int) -> bool:
    if ending.kind == "void":
        return ending.cost == 0 and ending.status is not Status.COMPLETED
    by_operator = ending.failure is not None and ending.failure.code == "resolved_by_operator"
    failed_cheap = ending.status is Status.FAILED and ending.cost < minimum_fee and not by_operator
    return ending.status is not Status.EXPIRED and not failed_cheap


def hashes_hold(rows: Rows) -> Offenders:
    for run_id, row in rows.endings.items():
        if row.result_sha256 != digest(row.ending.result):
            yield {"run_id": str(run_id)}


def results_present(rows: Rows) -> Offenders:
    for run_id, row in rows.endings.items():
        if row.ending.status is Status.COMPLETED and row.ending.result is None:
            yield {"run_id": str(run_id)}


def usage_equals_endings(rows: Rows) -> Offenders:
    folded: dict[tuple[str, Any], UsageRow] = defaultdict(UsageRow)
    for row in rows.endings.values():
        usage = folded[row.ending.tenant_id, row.finished_at.date()]
        usage.runs += 1
        usage.completed += row.ending.status is Status.COMPLETED
        usage.failed += row.ending.status is Status.FAILED
        usage.cost += row.ending.cost
        usage.reserved += row.ending.cost + row.ending.returned
    if dict(folded) != dict(rows.usage):
        yield {"usage": str(dict(rows.usage)), "folded": str(dict(folded))}


def totals_conserve(rows: Rows) -> Offenders:
    signs = {"deposit": 1, "withdraw": -1, "refund": 0, "adjust": 1}
    postings = [row.posting for row in rows.transfers.values()]
    moved = sum(signs[one.kind] * one.amount for one in postings)
    there = sum(b.available + b.held + b.spent for b in rows.budgets.values())
    if moved != there:
        yield {"moved": moved, "there": there}


def refunds_within_cost(rows: Rows) -> Offenders:
    for of in {(row.posting.tenant_id, row.posting.run_id) for row in rows.transfers.values()}:
        tenant_id, run_id = of
        if run_id is None:
            continue
        ended = rows.endings.get(run_id)
        if ended is None or ended.ending.tenant_id != tenant_id:
            yield {"tenant_id": tenant_id, "run_id": str(run_id), "cost": None}
        elif rows.refunded(run_id) > ended.ending.cost:
            yield {"tenant_id": tenant_id, "run_id": str(run_id), "cost": ended.ending.cost}


def counted(rows: Rows) -> Iterator[tuple[SubmissionRow, int]]:
    """Yield every reserve with what of it was not returned."""
    for run_id, row in rows.submissions.items():
        ended = rows.endings.get(run_id)
        yield row, row.asked.max_cost - (0 if ended is None else ended.ending.returned)


def spend_equals_facts(rows: Rows) -> Offenders:
    for tenant_id, budget in rows.budgets.items():
        ours = [(row, n) for row, n in counted(rows) if row.asked.tenant_id == tenant_id]
        shown = budget.spending
        _, last = max(((row.seq, row.budget_day) for row, _ in ours), default=(0, NEVER))
        row = {
            "tenant_id": tenant_id,
            "spend_day": shown.day.isoformat(),
            "spend_day_folded": last.isoformat(),
            **dict.fromkeys(("day", "month", "spend", "spend_folded")),
        }
        if shown.day != last:
            yield row
            continue
        for name, form, spend in (
            ("day", "%Y-%m-%d", shown.day_spend),
            ("month", "%Y-%m", shown.month_spend),
        ):
            period = f"{last:{form}}"
            folded = sum(n for one, n in ours if f"{one.budget_day:{form}}" == period)
            if spend != folded:
                yield {**row, name: period, "spend": spend, "spend_folded": folded}


def allowances_equal_facts(rows: Rows) -> Offenders:
    folded: Counter[str] = Counter()
    for row, amount in counted(rows):
        if row.allowance_id is not None:
            folded[row.allowance_id] += amount
    for name in sorted({*rows.allowances, *folded}):
        shown = rows.allowances.get(name)
        if shown is None or shown.used != folded[name] or shown.used > shown.limit:
            yield {
                "tenant_id": rows.keys[name].tenant_id,
                "allowance_id": name,
                "used": shown and shown.used,
                "used_folded": folded[name],
                "spend_limit": shown and shown.limit,
            }


def nobody(_rows: Rows) -> Offenders:
    """There is no database that could be told to let facts be changed."""
    return iter(())


def budgets_have_tenants(rows: Rows) -> Offenders:
    for name in sorted(rows.budgets.keys() - rows.tenants.keys()):
        yield {"tenant_id": name}


INVARIANTS: dict[str, Callable[[Rows], Offenders]] = {
    "01_budgets_conserve": budgets_conserve,
    "02_budgets_equal_ledger": budgets_equal_ledger,
    "03_held_is_unresolved": held_is_unresolved,
    "04_live_or_ended": live_or_ended,
    "05_reserves_resolved": reserves_resolved,
    "06_rows_agree": rows_agree,
    "07_hashes_hold": hashes_hold,
    "08_results_present": results_present,
    "09_usage_equals_endings": usage_equals_endings,
    "10_totals_conserve": totals_conserve,
    "11_refunds_within_cost": refunds_within_cost,
    "12_spend_equals_facts": spend_equals_facts,
    "13_allowances_equal_facts": allowances_equal_facts,
    "14_facts_are_guarded": nobody,
    "15_budgets_have_tenants": budgets_have_tenants,
    "16_closings_hold": nobody,
}
