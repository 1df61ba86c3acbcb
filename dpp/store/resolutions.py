"""Resolving a finding: one transaction that locks, looks again, decides, and writes.

A run is ended through `dpp.store.endings`, by the guard that everybody ends it by; its ending's id
is the finding's. Resolvers of a tenant come one after the other, by its budget's lock; the last
open finding takes the freeze away, in the same transaction.
"""

from uuid import UUID

from dpp import auditing, resolutions, settlement
from dpp.admission import Busy
from dpp.auditing import ALLOWANCES, Mark, Offence
from dpp.findings import Finding, FindingUnknown, Resolved, ResolvedAlready, ResolveOutcome
from dpp.money import Micros
from dpp.resolutions import (
    FAILURE,
    Accept,
    Case,
    Decision,
    EndRun,
    Leave,
    Recount,
    Refold,
    Resolving,
    Rewrite,
    RunCase,
)
from dpp.runs import Status
from dpp.spending import Allowance
from dpp.store import audits, endings
from dpp.store.auditing import (
    LAST,
    OF_TENANTS,
    further,
    of_runs,
    of_tenant,
    offence,
    parts,
    read_allowances,
)
from dpp.store.audits import invariants
from dpp.store.connections import Connection
from dpp.store.findings import quoted
from dpp.store.queries import Row, queries
from dpp.store.transactions import NotCommitted, transaction


async def get_finding(connection: Connection, finding_id: UUID) -> Finding | None:
    """Return a finding, open or resolved."""
    row = await queries.get_findings.fetch_one(connection, finding_ids=[finding_id])
    return None if row is None else audits.finding(row)


async def resolve_finding(
    connection: Connection, asked: Resolving, folded: Mark, *, wait: bool
) -> ResolveOutcome | Busy:
    """Resolve a finding. Asked again with the same words it answers the same.

    `folded`: what the tenant's ledger was added up to before, without a lock.
    """
    lock = queries.lock_budgets if wait else queries.lock_budgets_free
    async with transaction(connection, "resolve"):
        seen = await get_finding(connection, asked.finding_id)
        if seen is None:
            return FindingUnknown()
        budget = await lock.fetch_one(connection, tenant_ids=[seen.tenant_id])
        if budget is None and seen.tenant_id is not None and not wait:
            return Busy()
        case = await read_case(connection, asked, seen, budget, folded)
        held = await queries.lock_tenant.fetch_one(connection, tenant_id=seen.tenant_id)
        frozen = held is not None and held["frozen"]
        finding = await get_finding(connection, asked.finding_id)  # only resolvers change it
        assert finding is not None
        if finding.resolution is not None:
            same = resolutions.is_same(asked, dict(finding.resolution))
            return Resolved(finding, frozen, again=True) if same else ResolvedAlready(finding)
        decided = resolutions.decide(asked.remedy, case)
        if not isinstance(decided, EndRun | Rewrite | Recount | Leave):
            return decided
        await carry_out(connection, finding, decided, budget)
        thawed = await close(connection, asked, finding, decided)
        done = await get_finding(connection, asked.finding_id)
    assert done is not None
    return Resolved(done, frozen=frozen and not thawed)


async def read_case(
    connection: Connection,
    asked: Resolving,
    finding: Finding,
    budget: Row | None,
    folded: Mark,
) -> Case:
    """Lock the run of the finding, and read what the remedy is decided by."""
    run_id = run_of(finding)
    run = None if run_id is None else await read_run(connection, finding, run_id, budget)
    allowance, found = None, None
    if isinstance(asked.remedy, Refold) and finding.tenant_id is not None:
        folded = await further(connection, finding.tenant_id, folded, LAST)
        allowance = await read_allowance(connection, finding, finding.tenant_id)
    if isinstance(asked.remedy, Accept):
        found = await still_wrong(connection, finding)
    return Case(
        invariant=finding.invariant,
        budget=None if budget is None else parts(budget),
        run=run,
        allowance=allowance,
        folded=folded,
        offence=found,
    )


async def read_run(
    connection: Connection, finding: Finding, run_id: UUID, budget: Row | None
) -> RunCase:
    """Lock the run's live row, and read what there is of it."""
    budgets = {} if budget is None else {str(finding.tenant_id): budget}
    rows = await endings.read_rows(connection, [run_id], budgets)
    reserve = await queries.reserve_of.fetch_one(
        connection, tenant_id=finding.tenant_id, run_id=run_id
    )
    ended = await queries.ending_of.fetch_one(connection, run_ids=[run_id])
    return RunCase(
        max_cost=None if reserve is None else Micros(reserve["max_cost"]),
        agrees=reserve is not None and reserve["agrees"],
        live=rows.live.get(run_id),
        ended=None if ended is None else endings.ended_run(ended),
    )


async def read_allowance(
    connection: Connection, finding: Finding, tenant_id: str
) -> Allowance | None:
    """Read the allowance of a finding that is about one; the tenant's budget is locked."""
    if finding.invariant != ALLOWANCES:
        return None
    allowance_id = finding.subject.removeprefix(f"{tenant_id} ")
    shown = await read_allowances(connection, [allowance_id])
    return shown.get(tenant_id, {}).get(allowance_id)


async def still_wrong(connection: Connection, finding: Finding) -> Offence | None:
    """Return the offence that the finding is about, if it still is one."""
    if finding.tenant_id is None or finding.invariant not in {one.name for one in invariants()}:
        return None
    if finding.invariant in OF_TENANTS:
        found = await of_tenant(connection, finding.tenant_id, finding.invariant)
    else:
        rows = await of_runs().fetch(
            connection,
            tenant_ids=[],
            afters=[],
            untils=[],
            run_tenants=[finding.tenant_id],
            run_ids=[UUID(finding.subject)],
        )
        found = [offence(row) for row in rows]
    key = (finding.invariant, finding.subject)
    return next((one for one in found if one.key == key), None)


async def carry_out(
    connection: Connection, finding: Finding, decided: Decision, budget: Row | None
) -> None:
    """Do what was decided; everything that it touches is locked."""
    match decided:
        case EndRun(cost, is_lost):
            assert budget is not None
            await end_run(connection, finding, cost, budget, is_lost=is_lost)
        case Rewrite(old, new):
            row = await queries.rewrite_budget.fetch_one(
                connection,
                tenant_id=finding.tenant_id,
                was_there=old is not None,
                **{name: getattr(new, name) for name in (*auditing.PARTS, "seq")},
                spend_day=new.spending.day,
                day_spend=new.spending.day_spend,
                month_spend=new.spending.month_spend,
            )
            if row is None:
                raise NotCommitted("the budget row came back meanwhile")
        case Recount(old, used):
            row = await queries.rewrite_allowance.fetch_one(
                connection,
                tenant_id=finding.tenant_id,
                allowance_id=old.allowance_id,
                used=used,
            )
            assert row is not None, "allowances are never deleted"
        case Leave(_, is_stray):
            if is_stray:
                gone = await queries.drop_stray_run.fetch_one(connection, run_id=run_of(finding))
                assert gone is not None, "its row was locked"


async def end_run(
    connection: Connection, finding: Finding, cost: Micros, budget: Row, *, is_lost: bool
) -> None:
    """End a run FAILED, whoever holds it, by the fence that its row has now."""
    run_id = UUID(finding.subject)
    if is_lost:
        put_back = await queries.put_back_run.fetch_one(
            connection, tenant_id=finding.tenant_id, run_id=run_id
        )
        assert put_back is not None
    await queries.release_run.fetch(connection, run_id=run_id)
    rows = await endings.read_rows(connection, [run_id], {str(finding.tenant_id): budget})
    run = rows.live[run_id]
    assert not run.quarantined
    ended = settlement.ending(
        run, finding.finding_id, budget["seq"] + 1, Status.FAILED, cost, failure=FAILURE
    )
    await endings.write(connection, [ended])


async def close(
    connection: Connection, asked: Resolving, finding: Finding, decided: Decision
) -> bool:
    """Mark the finding resolved; say whether that thawed its tenant."""
    kept = quoted(resolutions.evidence(asked, decided))
    closed = await queries.close_finding.fetch_one(
        connection, finding_id=finding.finding_id, resolution=kept
    )
    assert closed is not None, "somebody resolved it past the budget's lock"
    thawed = await queries.thaw_tenant.fetch_one(connection, tenant_id=finding.tenant_id)
    return thawed is not None


def run_of(finding: Finding) -> UUID | None:
    """Return the run that a finding is about."""
    if finding.tenant_id is None:
        return None
    try:
        return UUID(finding.subject)
    except ValueError:  # a tenant, or a day, a month or an allowance of one
        return None
