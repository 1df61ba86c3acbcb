-- Takes away a live row that stands for no reserve: its run has ended, whose ever the row says it is, and the reserve was
-- resolved by the ending; or nobody submitted it. The caller has locked the row.
delete from live_runs
 where run_id = :run_id
   and (exists (select from endings where endings.run_id = live_runs.run_id)
        or not exists (select from submissions s
                        where s.tenant_id = live_runs.tenant_id and s.run_id = live_runs.run_id))
returning run_id
