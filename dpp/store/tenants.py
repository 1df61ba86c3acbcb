"""Tenants."""

from dpp.ledger import Kind, Posting
from dpp.store import keys, reads, transfers
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import transaction
from dpp.tenants import NewTenant, Tenant, TenantExists


async def create_tenant(connection: Connection, new: NewTenant) -> Tenant | TenantExists:
    """Make a tenant with its first key and deposit, in one transaction.

    Asked again under the same key it answers the tenant; another key = it existed.
    """
    async with transaction(connection):
        made = await queries.write_tenant.fetch_one(
            connection, tenant_id=new.tenant_id, plan=new.plan
        )
        mine = made is not None or await queries.find_key.fetch(connection, key_id=new.key.key_id)
        if made is not None:
            await keys.write_key(connection, new.key, new.operator)
            if new.deposit > 0:
                await transfers.post(connection, first_deposit(new))
        tenant = await get_tenant(connection, new.tenant_id)
    assert tenant is not None
    return tenant if mine else TenantExists()


def first_deposit(new: NewTenant) -> Posting:
    """Return the deposit that a tenant starts with."""
    return Posting(
        tenant_id=new.tenant_id,
        kind=Kind.DEPOSIT,
        amount=new.deposit,
        reference=new.reference,
        operator=new.operator,
    )


async def get_tenant(connection: Connection, tenant_id: str) -> Tenant | None:
    """Return a tenant with its budget."""
    row = await queries.get_tenant.fetch_one(connection, tenant_id=tenant_id)
    return None if row is None else tenant(row)


async def list_tenants(connection: Connection, *, after: str, limit: int) -> list[Tenant]:
    """Return tenants by name."""
    rows = await queries.list_tenants.fetch(connection, after=after, limit=limit)
    return [tenant(row) for row in rows]


async def set_plan(connection: Connection, tenant_id: str, plan: str) -> Tenant | None:
    """Put a tenant on another plan."""
    async with transaction(connection):
        await queries.set_plan.fetch(connection, tenant_id=tenant_id, plan=plan)
        return await get_tenant(connection, tenant_id)


async def set_suspended(
    connection: Connection, tenant_id: str, *, suspended: bool
) -> Tenant | None:
    """Suspend or resume a tenant."""
    async with transaction(connection):
        await queries.set_suspended.fetch(connection, tenant_id=tenant_id, suspended=suspended)
        return await get_tenant(connection, tenant_id)


def tenant(row: Row) -> Tenant:
    """Read a tenant."""
    return Tenant(
        tenant_id=row["tenant_id"],
        plan=row["plan"],
        suspended=row["suspended"],
        frozen=row["frozen"],
        created_at=row["created_at"],
        budget=reads.budget(row),
    )
