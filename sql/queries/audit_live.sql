-- How many live rows these tenants have, and what those hold; two partial indexes, one of them each row is in.
with item as materialized (
  select * from unnest(:tenant_ids::text[]) as i (tenant_id)
)
select i.tenant_id, count(l.run_id) as runs, coalesce(sum(l.max_cost), 0)::bigint as held
  from item i
  left join lateral (
         select run_id, max_cost from live_runs q where q.tenant_id = i.tenant_id and q.lease_id is null
          union all
         select run_id, max_cost from live_runs p where p.tenant_id = i.tenant_id and p.lease_id is not null
         offset 0) as l on true
 group by i.tenant_id
 order by i.tenant_id
