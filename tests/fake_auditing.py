"""What the auditor asks of the fake store's tables: the same windows and sums, judged the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from dpp import auditing
from dpp.auditing import Account, Counted, Fold, Mark, Offence, Parts, Sums, Usage, Window
from dpp.findings import AuditedPage, Finding
from tests import fake_audit

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from dpp.ledger import Entry
    from dpp.spending import Allowance
    from tests.fake_rows import Rows

OF_RUNS = ("04", "05", "06", "07", "08", "11")


def page(
    rows: Rows, marks: Mapping[str, Mark], *, after: str, tenants_max: int, facts_max: int
) -> AuditedPage:
    """Look at the tenants behind `after`, as far as the page goes."""
    names = sorted(name for name in rows.tenants if name > after)[:tenants_max]
    wanted, reached = auditing.windows(marks, [account(rows, name) for name in names], facts_max)
    now, offences = inspect(rows, marks, wanted, reached, touched(rows, wanted))
    whole = len(reached) == len(names) and len(names) < tenants_max
    last = reached[-1].tenant_id if reached else after
    return AuditedPage(
        marks=now,
        offences=tuple(one for one in offences if not known(rows, one)),
        after=None if whole else last,
        findings_open=sum(one.resolved_at is None for one in rows.findings),
    )


def open_findings(
    rows: Rows,
    tenant_id: str,
    offences: Sequence[Offence],
    mark: Mark,
    finding_ids: Sequence[UUID],
    now: datetime,
) -> list[Finding]:
    """Look again, open what still is wrong, freeze the tenant."""
    here = account(rows, tenant_id)
    until = mark.seq if here.budget is None else max(mark.seq, here.budget.seq)
    wanted = [Window(tenant_id, mark.seq, until, whole=True)]
    runs = {one.subject for one in offences if "run_id" in one.offender}
    _, again = inspect(rows, {tenant_id: mark}, wanted, [here], runs)
    asked = {one.key: finding_id for one, finding_id in zip(offences, finding_ids, strict=True)}
    for one in again:
        if one.key in asked and not known(rows, one):
            evidence = {"digest": one.digest, "offender": dict(one.offender)}
            evidence["claim"] = fake_audit.claim_of(one.invariant)
            rows.findings.append(
                Finding(asked[one.key], one.invariant, one.subject, tenant_id, evidence, now)
            )
            rows.tenants[tenant_id].frozen = True
    return [one for one in rows.findings if one.finding_id in set(finding_ids)]


def inspect(
    rows: Rows,
    marks: Mapping[str, Mark],
    wanted: Sequence[Window],
    reached: Sequence[Account],
    runs: Iterable[str],
) -> tuple[dict[str, Mark], list[Offence]]:
    """Return the marks after these windows, and what is wrong."""
    folds = {window.tenant_id: fold(rows, window) for window in wanted}
    now = {
        window.tenant_id: auditing.moved(
            marks.get(window.tenant_id, Mark()), window, folds[window.tenant_id]
        )
        for window in wanted
    }
    offences: list[Offence] = []
    for here in reached:
        mark = now.get(here.tenant_id) or marks.get(here.tenant_id, Mark())
        offences += auditing.judge_budget(here, mark)
        if here.budget is None or mark.beyond.entries:
            continue
        wrong = list(auditing.judge_spending(here, mark))
        if here.tenant_id in now:
            wrong += auditing.judge_days(here.tenant_id, mark, usage(rows, here, mark))
            shown = allowances(rows, here.tenant_id)
            names = {*shown, *mark.counted.used}
            offences += auditing.judge_allowances(here.tenant_id, mark, shown, names)
            now[here.tenant_id] = auditing.at_end(mark, names, days_agree=not wrong)
        offences += wrong
    asked = set(runs)
    offences += [one for one in of_runs(rows) if one.subject in asked]
    return now, offences


def of_runs(rows: Rows) -> Iterable[Offence]:
    """Yield what is wrong with single runs."""
    for name, offenders in fake_audit.INVARIANTS.items():
        if name.startswith(OF_RUNS):
            for offender in offenders(rows):
                yield auditing.offence(name, {"tenant_id": owner(rows, offender), **offender})


def of_finding(rows: Rows, invariant: str, subject: str) -> Offence | None:
    """Return the offence that a finding is about, if it still is one."""
    for offender in fake_audit.INVARIANTS.get(invariant, lambda _: ())(rows):
        one = auditing.offence(invariant, {"tenant_id": owner(rows, offender), **offender})
        if one.subject == subject:
            return one
    return None


def owner(rows: Rows, offender: Mapping[str, object]) -> str | None:
    """Return the tenant of an offender that only names its run."""
    for run_id, row in rows.submissions.items():
        if str(run_id) == offender.get("run_id"):
            return row.asked.tenant_id
    return None


def touched(rows: Rows, wanted: Sequence[Window]) -> set[str]:
    """Return the runs of the facts in these windows."""
    return {
        str(fact.run_id)
        for window in wanted
        for fact in rows.ledger(window.tenant_id)
        if window.after < fact.seq <= window.until and fact.run_id is not None
    }


def known(rows: Rows, one: Offence) -> bool:
    """Say whether a finding tells of it, or an operator accepted it."""
    return any(
        (finding.invariant, finding.subject) == one.key
        and (finding.resolved_at is None or (finding.resolution or {}).get("digest") == one.digest)
        for finding in rows.findings
    )


def account(rows: Rows, tenant_id: str) -> Account:
    """Read a tenant with its budget."""
    row = rows.budgets.get(tenant_id)
    if row is None:
        return Account(tenant_id, None)
    names = (*auditing.PARTS, "seq", "spending")
    return Account(tenant_id, Parts(**{name: getattr(row, name) for name in names}))


def allowances(rows: Rows, tenant_id: str) -> dict[str, Allowance]:
    """Return the allowances of a tenant."""
    return {
        name: one for name, one in rows.allowances.items() if rows.keys[name].tenant_id == tenant_id
    }


def fold(rows: Rows, window: Window) -> Fold:
    """Add up a window."""
    facts = [fact for fact in rows.ledger(window.tenant_id) if fact.seq > window.after]
    days: dict[date, Usage] = {}
    for row in rows.endings.values():
        of = row.ending
        if of.tenant_id == window.tenant_id and window.after < of.seq <= window.until:
            day = row.finished_at.date()
            ended = Usage(
                runs=1,
                completed=int(of.status.value == "COMPLETED"),
                failed=int(of.status.value == "FAILED"),
                cost=of.cost,
                reserved=of.cost + of.returned,
            )
            days[day] = days.get(day, Usage()) + ended
    return Fold(
        sums=sums(fact for fact in facts if fact.seq <= window.until),
        beyond=sums(fact for fact in facts if window.whole and fact.seq > window.until),
        days=days,
        counted=counted(
            rows, window.tenant_id, [fact for fact in facts if fact.seq <= window.until]
        ),
    )


def counted(rows: Rows, tenant_id: str, facts: Iterable[Entry]) -> Counted:
    """Add up what reserves count, less what was returned."""
    total = Counted()
    for fact in facts:
        row = None if fact.run_id is None else rows.submissions.get(fact.run_id)
        if row is None or row.asked.tenant_id != tenant_id or fact.kind == "refund":
            continue
        amount = fact.amount if fact.kind == "reserve" else -(fact.returned or 0)
        total += Counted(
            seq=fact.seq if fact.kind == "reserve" else 0,
            day=row.budget_day,
            days={row.budget_day: amount},
            used={} if row.allowance_id is None else {row.allowance_id: amount},
        )
    return total


def sums(facts: Iterable[Entry]) -> Sums:
    """Add facts up."""
    total = Sums()
    for fact in facts:
        reserve = {"reserve": 1, "settle": -1, "void": -1}.get(fact.kind, 0)
        into = {"deposit": 1, "withdraw": -1, "adjust": 1}.get(fact.kind, 0)
        total += Sums(
            deposited=into * fact.amount,
            held=reserve * fact.amount,
            spent=(fact.cost or 0) - (fact.amount if fact.kind == "refund" else 0),
            entries=1,
            seqs=1,
            top=fact.seq,
            unresolved=reserve,
        )
    return total


def usage(rows: Rows, here: Account, mark: Mark) -> dict[date, Usage]:
    """Read usage from the mark's day on."""
    return {
        day: Usage(**{name: getattr(row, name) for name in auditing.COUNTED})
        for (tenant_id, day), row in rows.usage.items()
        if tenant_id == here.tenant_id and (mark.since is None or day >= mark.since)
    }
