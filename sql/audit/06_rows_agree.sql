-- a live row carries its submission's amounts, day and allowance; an ending's status and error agree with its kind and payer
select s.run_id, s.tenant_id, s.max_cost, l.max_cost as live_max_cost, s.minimum_fee, l.minimum_fee as live_minimum_fee,
       s.budget_day, l.budget_day as live_budget_day, s.allowance_id, l.allowance_id as live_allowance_id,
       e.status, e.kind, e.cost
  from submissions s
  left join live_runs l on l.run_id = s.run_id
  left join endings e on e.run_id = s.run_id
 where l.max_cost <> s.max_cost
    or l.minimum_fee <> s.minimum_fee
    or l.budget_day <> s.budget_day
    or l.run_id is not null and l.allowance_id is distinct from s.allowance_id
    or e.kind = 'void' and (e.cost <> 0 or e.status = 'COMPLETED')
    or e.kind = 'settle' and e.status = 'EXPIRED'
    or e.kind = 'settle' and e.status = 'FAILED' and e.cost < s.minimum_fee and e.error_code <> 'resolved_by_operator'
    or e.status = 'FAILED' and (e.kind = 'void') <> (e.error_code in ('lost_lease', 'store_unavailable', 'infrastructure'))
       and e.error_code <> 'resolved_by_operator'
    or e.status = 'CANCELED' and (e.kind = 'settle') <> (e.cost > 0)
 order by s.run_id
