-- every COMPLETED run's result is there
select run_id, tenant_id
  from endings
 where status = 'COMPLETED' and (result is null or result_sha256 is null)
 order by run_id
 limit 100
