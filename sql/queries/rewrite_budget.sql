-- A budget row written anew from its facts, which are what stands; the row is locked, or gone.
-- No row: it was gone, and somebody else wrote it meanwhile; the sums of before that are worth nothing.
insert into budgets (tenant_id, deposited, available, held, spent, seq)
values (:tenant_id, :deposited, :available, :held, :spent, :seq)
on conflict (tenant_id) do update
   set deposited = excluded.deposited, available = excluded.available, held = excluded.held, spent = excluded.spent,
       seq = excluded.seq
 where :was_there::boolean
returning tenant_id
