-- Which of these attempts' objects must stay: an ending points to it, or the run is still live under that epoch.
select a.run_id, a.lease_epoch
  from unnest(:run_ids::uuid[], :lease_epochs::bigint[]) as a (run_id, lease_epoch)
 where exists (select from live_runs r where r.run_id = a.run_id and r.lease_epoch = a.lease_epoch)
    or exists (select from endings e
                where e.run_id = a.run_id and e.lease_epoch = a.lease_epoch and e.result_key is not null)
