-- The tenants that have queued runs, by name after :after: a loose scan, one index probe a tenant however long its queue.
with recursive waiting (tenant_id, n) as (
  (select r.tenant_id, 1 from live_runs r
    where r.lease_id is null and r.tenant_id > :after order by r.tenant_id limit 1)
  union all
  select (select r.tenant_id from live_runs r
           where r.lease_id is null and r.tenant_id > w.tenant_id order by r.tenant_id limit 1), w.n + 1
    from waiting w
   where w.tenant_id is not null and w.n < :limit::int
)
select tenant_id from waiting where tenant_id is not null order by tenant_id
