-- Which of these live runs nobody submitted. No claim returns one, for it has no inputs, though it stamps it; and no ending
-- may give back a reserve that was never made.
select r.run_id
  from live_runs r
 where r.run_id = any(:run_ids::uuid[])
   and not exists (select from submissions s where s.tenant_id = r.tenant_id and s.run_id = r.run_id)
 order by r.run_id
