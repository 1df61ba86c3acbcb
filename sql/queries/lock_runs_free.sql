-- The same for maintenance: a row that somebody holds costs itself, not the pass.
select run_id, tenant_id, lease_id, lease_epoch, attempts_spent, max_cost, minimum_fee, cancel_asked, storing,
       quarantined_at is not null as quarantined, expires_at <= dpp.now() as expired
  from live_runs
 where run_id = any(:run_ids::uuid[])
 order by run_id
   for no key update skip locked
