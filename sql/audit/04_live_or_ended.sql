-- every submission has either a live row or an ending, never both, never neither; each of those has its submission
select coalesce(s.run_id, l.run_id, e.run_id) as run_id, coalesce(s.tenant_id, l.tenant_id, e.tenant_id) as tenant_id,
       s.run_id is not null as submitted, l.run_id is not null as live, e.run_id is not null as ended
  from submissions s
  full join live_runs l on l.run_id = s.run_id and l.tenant_id = s.tenant_id
  full join endings e on e.run_id = coalesce(s.run_id, l.run_id) and e.tenant_id = coalesce(s.tenant_id, l.tenant_id)
 where s.run_id is null or (l.run_id is null) = (e.run_id is null)
 order by 1
