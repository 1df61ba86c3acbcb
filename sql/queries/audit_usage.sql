-- Usage of these tenants, each from its day in :sinces on; null = of every day.
with item as materialized (
  select * from unnest(:tenant_ids::text[], :sinces::date[]) as i (tenant_id, since)
)
select u.tenant_id, u.day, u.runs, u.completed, u.failed, u.cost, u.reserved
  from item i
 cross join lateral (select * from usage_days d
                      where d.tenant_id = i.tenant_id and (i.since is null or d.day >= i.since) offset 0) as u
 order by u.tenant_id, u.day
