-- A tenant, its turn and its empty budget. No row: there is one of this name, and nothing was changed.
with tenant as (
  insert into tenants (tenant_id, plan, created_at) values (:tenant_id, :plan, dpp.now())
  on conflict do nothing
  returning tenant_id
),
turn as (insert into tenant_turns (tenant_id) select tenant_id from tenant),
budget as (
  insert into budgets (tenant_id, deposited, available, held, spent, seq) select tenant_id, 0, 0, 0, 0, 0 from tenant
)
select tenant_id from tenant
