-- After lock_budgets. A row that comes back with lease_id null is QUEUED and now ours: the same transaction ends it.
-- With a lease: asked, its node will feel it. No row: the run has ended, or never was.
update live_runs
   set cancel_asked = true
 where run_id = :run_id and tenant_id = :tenant_id
returning lease_id, lease_epoch, max_cost, quarantined_at is not null as quarantined
