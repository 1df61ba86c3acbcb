-- usage per day = what the closing entry counts of that day, and the fold of the endings behind it by their UTC day
with counted as (
  select e.tenant_id, (e.finished_at at time zone 'utc')::date as day, 1 as runs,
         (e.status = 'COMPLETED')::int as completed, (e.status = 'FAILED')::int as failed,
         e.cost, e.cost + e.returned as reserved
    from endings e
    left join closings c on c.tenant_id = e.tenant_id
   where e.seq > coalesce(c.seq, 0)
   union all
  select tenant_id, day, runs, completed, failed, cost, reserved from closed_days
),
fold as (
  select tenant_id, day, sum(runs)::bigint as runs, sum(completed)::bigint as completed, sum(failed)::bigint as failed,
         sum(cost) as cost, sum(reserved) as reserved
    from counted
   group by 1, 2
)
select coalesce(u.tenant_id, f.tenant_id) as tenant_id, coalesce(u.day, f.day) as day,
       u.runs, f.runs as runs_folded, u.completed, f.completed as completed_folded, u.failed, f.failed as failed_folded,
       u.cost, f.cost as cost_folded, u.reserved, f.reserved as reserved_folded
  from usage_days u
  full join fold f on f.tenant_id = u.tenant_id and f.day = u.day
 where (u.runs, u.completed, u.failed, u.cost, u.reserved) is distinct from (f.runs, f.completed, f.failed, f.cost, f.reserved)
 order by 1, 2
