-- The runs of a lease that has just been ended, no attempt spent. Those whose cancel was asked are left to the reaper,
-- which ends them; those that store a result, to the reconciler.
update live_runs
   set lease_id = null, deadline = null, available_at = dpp.now()
 where lease_id = :lease_id and not cancel_asked and not storing and quarantined_at is null
returning run_id
