-- Before an attempt's result goes to the blob store: from now on the run is the reconciler's, not the reaper's.
update live_runs
   set storing = true
 where run_id = :run_id
   and lease_id = :lease_id
   and lease_epoch = :lease_epoch
   and quarantined_at is null
returning run_id
