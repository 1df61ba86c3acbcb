-- The closing entries of these tenants, with the last day that something they cover ended on, and what their allowances had
-- used. One over nothing does not come back.
select c.tenant_id, c.seq, c.deposited, c.held, c.spent, c.unresolved, c.spend_seq, c.spend_day, c.day_spend, c.month_spend,
       (select max(d.day) from closed_days d where d.tenant_id = c.tenant_id) as last_day,
       w.allowance_ids, w.useds
  from closings c
  left join lateral (select array_agg(a.allowance_id) as allowance_ids, array_agg(a.used) as useds
                       from closed_allowances a where a.tenant_id = c.tenant_id) as w on true
 where c.tenant_id = any(:tenant_ids::text[]) and c.seq > 0
