-- What a run may cost by its submission, and whether its live row is of the same money; no row: the tenant submitted no
-- such run.
select s.max_cost,
       coalesce((l.max_cost, l.minimum_fee, l.budget_day) = (s.max_cost, s.minimum_fee, s.budget_day)
                and l.allowance_id is not distinct from s.allowance_id, false) as agrees
  from submissions s
  left join live_runs l on l.run_id = s.run_id and l.tenant_id = s.tenant_id
 where s.tenant_id = :tenant_id and s.run_id = :run_id
