-- every budget has its tenant's row: without it nobody could be stopped, thawed or shown what is theirs
select b.tenant_id, b.deposited, b.available, b.held, b.spent
  from budgets b
 where not exists (select from tenants t where t.tenant_id = b.tenant_id)
 order by b.tenant_id
