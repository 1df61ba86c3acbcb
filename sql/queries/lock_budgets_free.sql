-- The same without waiting: a tenant that does not come back is held by somebody else, and is asked again by itself.
select tenant_id, deposited, available, held, spent, seq, window_from, window_count, spend_day, day_spend, month_spend
  from budgets
 where tenant_id = any(:tenant_ids::text[])
 order by tenant_id
   for no key update skip locked
