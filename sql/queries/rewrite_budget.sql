-- A budget row written anew from its facts, which are what stands; the row is locked, or gone.
insert into budgets (tenant_id, deposited, available, held, spent, seq)
values (:tenant_id, :deposited, :available, :held, :spent, :seq)
on conflict (tenant_id) do update
   set deposited = excluded.deposited, available = excluded.available, held = excluded.held, spent = excluded.spent,
       seq = excluded.seq
returning tenant_id
