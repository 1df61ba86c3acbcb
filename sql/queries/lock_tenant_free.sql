-- The same without waiting. No row: somebody else holds it, or there is no such tenant.
select frozen_at is not null as frozen from tenants where tenant_id = :tenant_id for no key update skip locked
