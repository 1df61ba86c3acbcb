-- A budget row written anew from what its facts add up to, which are what stands; the row is locked, or gone.
-- No row: it was gone, and somebody else wrote it meanwhile; the sums of before that are worth nothing.
insert into budgets (tenant_id, deposited, available, held, spent, seq, spend_day, day_spend, month_spend)
values (:tenant_id, :deposited, :available, :held, :spent, :seq, :spend_day, :day_spend, :month_spend)
on conflict (tenant_id) do update
   set deposited = excluded.deposited, available = excluded.available, held = excluded.held, spent = excluded.spent,
       seq = excluded.seq, spend_day = excluded.spend_day, day_spend = excluded.day_spend, month_spend = excluded.month_spend
 where :was_there::boolean
returning tenant_id
