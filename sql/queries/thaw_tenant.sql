-- Lifts the freeze where no finding is open any more; the tenant's row is locked by an earlier statement.
update tenants t set frozen_at = null
 where t.tenant_id = :tenant_id and t.frozen_at is not null
   and not exists (select from findings f where f.tenant_id = t.tenant_id and f.resolved_at is null)
returning t.tenant_id
