"""Tenants: companies with a prepaid budget."""

from datetime import datetime

from attrs import frozen

from dpp.keys import NewKey
from dpp.ledger import Budget
from dpp.money import Micros


@frozen(kw_only=True)
class Tenant:
    """A tenant with its budget."""

    tenant_id: str
    plan: str
    suspended: bool
    frozen: bool
    created_at: datetime
    budget: Budget


@frozen(kw_only=True)
class NewTenant:
    """A tenant to make, its first key and, where `deposit` > 0, its first deposit."""

    tenant_id: str
    plan: str
    key: NewKey
    deposit: Micros
    reference: str
    operator: str


@frozen
class TenantExists:
    """There is a tenant of this name; nothing was changed."""
