-- Takes away the live row of a run that has ended: its reserve was resolved by its ending. The caller holds its budget.
delete from live_runs
 where run_id = :run_id and tenant_id = :tenant_id
   and exists (select from endings where endings.run_id = live_runs.run_id and endings.tenant_id = live_runs.tenant_id)
returning run_id
