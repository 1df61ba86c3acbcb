-- every COMPLETED run's result is there: in its row, or in the blob store under its key
select run_id, tenant_id
  from endings
 where status = 'COMPLETED' and (num_nonnulls(result, result_key) <> 1 or result_sha256 is null)
 order by run_id
