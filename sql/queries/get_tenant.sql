select t.tenant_id, t.plan, t.suspended_at is not null as suspended, t.frozen_at is not null as frozen, t.created_at,
       b.deposited, b.available, b.held, b.spent
  from tenants t
  join budgets b on b.tenant_id = t.tenant_id
 where t.tenant_id = :tenant_id
