"""What the admin API answers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import asdict, frozen

from dpp.findings import Audit, Finding
from dpp.http.views.books import BudgetView, budget_view
from dpp.http.views.keys import key_view as tenants_key_view
from dpp.keys import Key
from dpp.membership import Member
from dpp.modes import Mode, ModeChange
from dpp.tenants import Tenant


@frozen(slots=False)
class TenantView:
    """A tenant and its money."""

    tenant_id: str
    plan: str
    suspended: bool
    frozen: bool
    created_at: datetime
    budget: BudgetView


@frozen(slots=False)
class KeyView:
    """A key, without its secret."""

    key_id: str
    tenant_id: str
    scopes: Sequence[str]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked: bool
    ended: bool
    spend_limit_usd: str | None
    spent_usd: str | None


@frozen(slots=False)
class BookedView:
    """A transfer that stands in the ledger, by this request or an earlier one."""

    tenant_id: str
    reference: str
    budget: BudgetView


@frozen(slots=False)
class OwnedRunView:
    """Whose run it is."""

    run_id: str
    tenant_id: str


@frozen(slots=False)
class InvariantView:
    """One invariant, and the first that offend it; `accepted`: how many more were accepted."""

    name: str
    claim: str
    offenders: Sequence[Mapping[str, Any]]
    accepted: int


@frozen(slots=False)
class FindingView:
    """A finding, open until it is resolved."""

    finding_id: UUID
    invariant: str
    subject: str
    tenant_id: str | None
    opened_at: datetime
    evidence: Mapping[str, Any]
    resolved_at: datetime | None
    resolution: Mapping[str, Any] | None


@frozen(slots=False)
class ResolvedView:
    """A finding that was resolved, and whether its tenant is still frozen."""

    finding: FindingView
    tenant_frozen: bool


@frozen(slots=False)
class SampleView:
    """How many objects of large results were looked at, and why no more of them."""

    looked: int
    could_not_ask: str | None


@frozen(slots=False)
class AuditView:
    """One pass over the books."""

    ok: bool
    invariants: Sequence[InvariantView]
    findings: Sequence[FindingView]
    large_results: SampleView


@frozen(slots=False)
class DrainView:
    """Who asked a node to drain, and why."""

    asked_at: datetime
    operator: str
    reason: str


@frozen(kw_only=True, slots=False)
class NodeView:
    """A node. Times and loads are of its last report; `loops`: seconds since each did its work."""

    node_id: str
    state: str
    host: str | None
    version: str | None
    runs: int | None
    concurrency: int | None
    last_heartbeat: datetime
    lease_until: datetime | None
    lease_left_s: float | None
    left_at: datetime | None
    drain: DrainView | None
    reported_at: datetime | None
    loops: Mapping[str, float | None]


@frozen(slots=False)
class ModeChangeView:
    """A mode that an operator asked for."""

    mode: str
    reason: str
    operator: str
    set_at: datetime
    expires_at: datetime | None


@frozen(slots=False)
class ModeView:
    """The mode in force, and the trail of changes, newest first."""

    mode: str
    changes: Sequence[ModeChangeView]


@frozen(slots=False)
class Listing:
    """A page of anything."""

    items: Sequence[object]
    next_cursor: str | None = None


def tenant_view(tenant: Tenant) -> TenantView:
    """Return a tenant as the admin API shows it."""
    return TenantView(
        tenant.tenant_id,
        tenant.plan,
        tenant.suspended,
        tenant.frozen,
        tenant.created_at,
        budget_view(tenant.budget),
    )


def with_key(view: TenantView | KeyView, key_id: str, api_key: str) -> dict[str, Any]:
    """Return what was made with the one sight of its key."""
    return {**asdict(view, recurse=False), "key_id": key_id, "api_key": api_key}


def key_view(key: Key) -> KeyView:
    """Return a key as the admin API shows it."""
    shown = asdict(tenants_key_view(key), recurse=False)
    return KeyView(**{**shown, "tenant_id": key.tenant_id, "created_by": key.created_by})


def finding_view(finding: Finding) -> FindingView:
    """Return a finding as operators see it."""
    return FindingView(
        finding.finding_id,
        finding.invariant,
        finding.subject,
        finding.tenant_id,
        finding.opened_at,
        finding.evidence,
        finding.resolved_at,
        finding.resolution,
    )


def resolved_view(finding: Finding, *, frozen: bool) -> ResolvedView:
    """Return what became of a finding."""
    return ResolvedView(finding_view(finding), frozen)


def audit_view(audit: Audit) -> AuditView:
    """Return an audit as the command line prints it."""
    return AuditView(
        audit.ok,
        [InvariantView(one.name, one.claim, one.offenders, one.accepted) for one in audit.verdicts],
        [finding_view(one) for one in audit.findings],
        SampleView(audit.sample.looked, audit.sample.could_not_ask),
    )


def node_view(member: Member) -> NodeView:
    """Return a node as operators see it."""
    report, until, drain = member.report, member.lease_until, member.drain
    return NodeView(
        node_id=member.node_id,
        state=member.state.value,
        host=None if report is None else report.host,
        version=None if report is None else report.version,
        runs=None if report is None else report.runs,
        concurrency=None if report is None else report.concurrency,
        last_heartbeat=member.last_heartbeat,
        lease_until=until,
        lease_left_s=None if until is None else round((until - member.now).total_seconds(), 1),
        left_at=member.left_at,
        drain=None if drain is None else DrainView(drain.asked_at, drain.operator, drain.reason),
        reported_at=member.reported_at,
        loops={} if report is None else report.loops,
    )


def mode_view(in_force: Mode, changes: Sequence[ModeChange]) -> ModeView:
    """Return the mode as operators see it."""
    return ModeView(
        in_force.value,
        [
            ModeChangeView(one.mode.value, one.reason, one.operator, one.set_at, one.expires_at)
            for one in changes
        ],
    )
