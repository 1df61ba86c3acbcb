"""What the admin API answers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from attrs import frozen

from dpp.http.views import BudgetView, budget_view
from dpp.ports import Audit, Finding, Key, Node, Tenant


@frozen
class TenantView:
    """A tenant and its money."""

    tenant_id: str
    plan: str
    suspended: bool
    frozen: bool
    created_at: datetime
    budget: BudgetView


@frozen(kw_only=True)
class NewTenantView:
    """A tenant as it was made. `api_key` is in this answer alone."""

    tenant_id: str
    plan: str
    suspended: bool
    frozen: bool
    created_at: datetime
    key_id: str
    api_key: str
    budget: BudgetView


@frozen
class KeyView:
    """A key, without its secret."""

    key_id: str
    tenant_id: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    revoked: bool


@frozen(kw_only=True)
class NewKeyView:
    """A key as it was made. `api_key` is in this answer alone."""

    key_id: str
    tenant_id: str
    scopes: Sequence[str]
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    api_key: str


@frozen
class BookedView:
    """A transfer that stands in the ledger, by this request or an earlier one."""

    tenant_id: str
    reference: str
    budget: BudgetView


@frozen
class InvariantView:
    """One invariant, and the first that offend it."""

    name: str
    claim: str
    offenders: Sequence[Mapping[str, Any]]


@frozen
class FindingView:
    """An open finding."""

    finding_id: UUID
    invariant: str
    subject: str
    tenant_id: str | None
    opened_at: datetime
    evidence: Mapping[str, Any]


@frozen
class AuditView:
    """One pass over the books."""

    ok: bool
    invariants: Sequence[InvariantView]
    findings: Sequence[FindingView]


@frozen
class NodeView:
    """A living node."""

    node_id: str
    lease_id: UUID
    lease_until: datetime


@frozen
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


def new_tenant_view(tenant: Tenant, key_id: str, api_key: str) -> NewTenantView:
    """Return a new tenant with the one sight of its key."""
    return NewTenantView(
        tenant_id=tenant.tenant_id,
        plan=tenant.plan,
        suspended=tenant.suspended,
        frozen=tenant.frozen,
        created_at=tenant.created_at,
        key_id=key_id,
        api_key=api_key,
        budget=budget_view(tenant.budget),
    )


def key_view(key: Key) -> KeyView:
    """Return a key as the admin API shows it."""
    return KeyView(
        key.key_id, key.tenant_id, key.scopes, key.created_at, key.expires_at, key.revoked
    )


def new_key_view(key: Key, api_key: str) -> NewKeyView:
    """Return a new key with the one sight of it."""
    return NewKeyView(
        key_id=key.key_id,
        tenant_id=key.tenant_id,
        scopes=key.scopes,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked=key.revoked,
        api_key=api_key,
    )


def finding_view(finding: Finding) -> FindingView:
    """Return a finding as operators see it."""
    return FindingView(
        finding.finding_id,
        finding.invariant,
        finding.subject,
        finding.tenant_id,
        finding.opened_at,
        finding.evidence,
    )


def audit_view(audit: Audit) -> AuditView:
    """Return an audit as the command line prints it."""
    return AuditView(
        audit.ok,
        [InvariantView(one.name, one.claim, one.offenders) for one in audit.verdicts],
        [finding_view(one) for one in audit.findings],
    )


def node_view(node: Node) -> NodeView:
    """Return a node as operators see it."""
    return NodeView(node.node_id, node.lease_id, node.lease_until)
