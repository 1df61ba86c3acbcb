-- every COMPLETED run's result is there as long as it is served: in its row, or in the blob store under its key
select e.run_id, e.tenant_id
  from endings e
  left join submissions s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
 where e.status = 'COMPLETED'
   and (num_nonnulls(e.result, e.result_key) > 1 or e.result_sha256 is null
        or num_nonnulls(e.result, e.result_key) = 0
           and coalesce(e.finished_at + s.result_days * interval '1 day' > dpp.now(), true))
 order by e.run_id
