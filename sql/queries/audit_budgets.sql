-- Tenants by name, with their budget rows; a budget that is gone is null.
select t.tenant_id, b.deposited, b.available, b.held, b.spent, b.seq, b.spend_day, b.day_spend, b.month_spend
  from tenants t
  left join budgets b on b.tenant_id = t.tenant_id
 where t.tenant_id > :after
 order by t.tenant_id
 limit :limit
