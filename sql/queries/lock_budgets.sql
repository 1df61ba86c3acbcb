-- First statement of every transaction that moves money: waits for each row. Judge no time here, it may be old.
select tenant_id, deposited, available, held, spent, seq, window_from, window_count, spend_day, day_spend, month_spend
  from budgets
 where tenant_id = any(:tenant_ids::text[])
 order by tenant_id
   for no key update
