"""Resolving a finding of the fake store: the same decision, on its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from attrs import evolve

from dpp import resolutions, settlement
from dpp.auditing import Mark
from dpp.findings import FindingUnknown, Resolved, ResolvedAlready, ResolveOutcome
from dpp.resolutions import FAILURE, Case, EndRun, Leave, Recount, Resolving, Rewrite, RunCase
from dpp.runs import Status
from tests import fake_auditing
from tests.fake_rows import BudgetRow, LiveRow

if TYPE_CHECKING:
    from datetime import datetime

    from dpp.findings import Finding
    from dpp.money import Micros
    from tests.fake_rows import Rows


def resolve(rows: Rows, asked: Resolving, now: datetime) -> ResolveOutcome:
    """Resolve a finding, or say why not."""
    finding = next((one for one in rows.findings if one.finding_id == asked.finding_id), None)
    if finding is None:
        return FindingUnknown()
    tenant = rows.tenants.get(finding.tenant_id or "")
    if finding.resolution is not None:
        same = resolutions.is_same(asked, dict(finding.resolution))
        frozen = tenant is not None and tenant.frozen
        return Resolved(finding, frozen, again=True) if same else ResolvedAlready(finding)
    decided = resolutions.decide(asked.remedy, case(rows, finding))
    match decided:
        case EndRun(cost, is_lost):
            end_run(rows, finding, cost, now, is_lost=is_lost)
        case Rewrite(_, new):
            rows.budgets[str(finding.tenant_id)] = BudgetRow(
                tenant_id=str(finding.tenant_id),
                deposited=new.deposited,
                available=new.available,
                held=new.held,
                spent=new.spent,
                seq=new.seq,
                spending=new.spending,
            )
        case Recount(old, used):
            rows.allowances[old.allowance_id] = evolve(old, used=used)
        case Leave(_, is_stray):
            if is_stray:
                del rows.live[UUID(finding.subject)]
        case refused:
            return refused
    done = evolve(finding, resolved_at=now, resolution=resolutions.evidence(asked, decided))
    rows.findings[rows.findings.index(finding)] = done
    if tenant is not None:
        of_tenant = [one for one in rows.findings if one.tenant_id == finding.tenant_id]
        tenant.frozen = tenant.frozen and any(one.resolved_at is None for one in of_tenant)
    return Resolved(done, frozen=tenant is not None and tenant.frozen)


def case(rows: Rows, finding: Finding) -> Case:
    """Read what a remedy is decided by."""
    tenant_id = str(finding.tenant_id)
    ledger = rows.ledger(tenant_id)
    allowance_id = finding.subject.removeprefix(f"{tenant_id} ")
    return Case(
        invariant=finding.invariant,
        budget=fake_auditing.account(rows, tenant_id).budget,
        run=run_case(rows, finding),
        allowance=fake_auditing.allowances(rows, tenant_id).get(allowance_id),
        folded=Mark(
            sums=fake_auditing.sums(ledger),
            counted=fake_auditing.counted(rows, tenant_id, ledger),
        ),
        offence=fake_auditing.of_finding(rows, finding.invariant, finding.subject),
    )


def run_case(rows: Rows, finding: Finding) -> RunCase | None:
    """Read the run of a finding that is about one."""
    try:
        run_id = UUID(finding.subject)
    except ValueError:
        return None
    submitted, live = rows.submissions.get(run_id), rows.live.get(run_id)
    agrees = (
        submitted is not None
        and live is not None
        and (live.max_cost, live.minimum_fee, live.budget_day, live.allowance_id)
        == (
            submitted.asked.max_cost,
            submitted.minimum_fee,
            submitted.budget_day,
            submitted.allowance_id,
        )
    )
    return RunCase(
        agrees=agrees,
        max_cost=None if submitted is None else submitted.asked.max_cost,
        live=None if live is None else live.as_live_run(),
        ended=rows.ended([run_id]).get(run_id),
    )


def end_run(rows: Rows, finding: Finding, cost: Micros, now: datetime, *, is_lost: bool) -> None:
    """End a run FAILED, put back first where its live row is lost."""
    run_id = UUID(finding.subject)
    if is_lost:
        row = rows.submissions[run_id]
        rows.live[run_id] = LiveRow(
            run_id=run_id,
            tenant_id=row.asked.tenant_id,
            available_at=now,
            expires_at=row.expires_at,
            max_cost=row.asked.max_cost,
            minimum_fee=row.minimum_fee,
            timebox_s=row.asked.timebox_s,
            priority=row.asked.priority,
            pack_type=row.asked.pack_type,
            budget_day=row.budget_day,
            allowance_id=row.allowance_id,
        )
    live = rows.live[run_id]
    live.quarantined = False
    seq = rows.budgets[live.tenant_id].seq + 1
    ended = settlement.ending(
        live.as_live_run(), finding.finding_id, seq, Status.FAILED, cost, failure=FAILURE
    )
    rows.write_ending(ended, now)
