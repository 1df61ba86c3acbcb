-- Unlocked: these live runs as they are, for a take-back that names what it saw.
select run_id, tenant_id, lease_id, lease_epoch
  from live_runs
 where run_id = any(:run_ids::uuid[])
 order by run_id
