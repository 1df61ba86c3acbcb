-- Tenants by name, with their budget rows and how far their books are closed; a budget that is gone is null.
select t.tenant_id, b.deposited, b.available, b.held, b.spent, b.seq, b.spend_day, b.day_spend, b.month_spend,
       coalesce(c.seq, 0) as closed_seq
  from tenants t
  left join budgets b on b.tenant_id = t.tenant_id
  left join closings c on c.tenant_id = t.tenant_id
 where t.tenant_id > :after
 order by t.tenant_id
 limit :limit
