-- Which of these runs there are, whose they are, and which could be claimed now. One snapshot: a run that ends meanwhile is
-- either still live or ended already, never neither.
select run_id, tenant_id,
       lease_id is null and quarantined_at is null and available_at <= dpp.now() as waits
  from live_runs
 where run_id = any(:run_ids::uuid[])
union all
select run_id, tenant_id, false
  from endings
 where run_id = any(:run_ids::uuid[])
