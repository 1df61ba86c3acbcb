-- Second statement of an ending, budgets are locked: the live rows as they are. A run that does not come back has ended,
-- and every ending holds its budget, so nothing ends between this statement and the next: ask ending_of for it.
select run_id, tenant_id, lease_id, lease_epoch, attempts_spent, max_cost, minimum_fee, cancel_asked, storing,
       quarantined_at is not null as quarantined
  from live_runs
 where run_id = any(:run_ids::uuid[])
 order by run_id
   for no key update
