-- The runs of a lease that has just been ended, no attempt spent. Those whose cancel was asked are left to the reaper,
-- which ends them; those that store a result, to the reconciler. Locked in the order of everybody else, by run;
-- one that somebody holds is left to the reaper too: it costs itself, not the drain.
with held as materialized (
  select run_id
    from live_runs
   where lease_id = :lease_id and not cancel_asked and not storing and quarantined_at is null
   order by run_id
     for no key update skip locked
)
update live_runs r
   set lease_id = null, deadline = null, available_at = dpp.now()
 where r.run_id = any(array(select held.run_id from held)) and r.lease_id = :lease_id
returning r.run_id
