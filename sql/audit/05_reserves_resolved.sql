-- cost + returned = the reserve, for every ending
select e.run_id, e.tenant_id, s.max_cost, e.cost, e.returned
  from endings e
  join submissions s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
 where e.cost + e.returned <> s.max_cost or least(e.cost, e.returned) < 0
 order by e.run_id
