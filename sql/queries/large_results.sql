-- Runs whose result lies in the blob store, from this one on, with what their object must be. By run.
select e.run_id, e.tenant_id, e.lease_epoch, e.result_key, e.result_sha256, s.created_at
  from endings e
  join submissions s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
 where e.result_key is not null and e.run_id >= :first
   and e.finished_at + s.result_days * interval '1 day' > dpp.now()  -- what is served no more may have gone
 order by e.run_id
 limit :limit::int
