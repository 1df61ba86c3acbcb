-- usage per day = the fold of endings by their UTC day
with fold as (
  select tenant_id, (finished_at at time zone 'utc')::date as day, count(*) as runs,
         count(*) filter (where status = 'COMPLETED') as completed,
         count(*) filter (where status = 'FAILED') as failed,
         sum(cost) as cost, sum(cost + returned) as reserved
    from endings
   group by 1, 2
)
select coalesce(u.tenant_id, f.tenant_id) as tenant_id, coalesce(u.day, f.day) as day,
       u.runs, f.runs as runs_folded, u.completed, f.completed as completed_folded, u.failed, f.failed as failed_folded,
       u.cost, f.cost as cost_folded, u.reserved, f.reserved as reserved_folded
  from usage_days u
  full join fold f on f.tenant_id = u.tenant_id and f.day = u.day
 where (u.runs, u.completed, u.failed, u.cost, u.reserved) is distinct from (f.runs, f.completed, f.failed, f.cost, f.reserved)
 order by 1, 2
