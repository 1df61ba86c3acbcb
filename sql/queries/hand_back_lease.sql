-- The runs of a lease that has just been ended, no attempt spent. Those whose cancel was asked are left to the reaper,
-- which ends them. One that was storing its result is executed again: an object that came to be is collected, while the
-- reconciler, which would look for it, can only take the run back as lost. Locked in the order of everybody else, by
-- run; one that somebody holds costs itself, not the drain: it is counted as left, and asked for again.
with mine as (
  select count(*) as n
    from live_runs
   where lease_id = :lease_id and not cancel_asked and quarantined_at is null
),
held as materialized (
  select run_id
    from live_runs
   where lease_id = :lease_id and not cancel_asked and quarantined_at is null
   order by run_id
     for no key update skip locked
),
back as (
  update live_runs r
     set lease_id = null, deadline = null, storing = false, available_at = dpp.now()
   where r.run_id = any(array(select held.run_id from held)) and r.lease_id = :lease_id
  returning 1
)
select (select n from mine) - (select count(*) from back) as left
