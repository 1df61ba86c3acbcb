-- How many live rows these tenants have, and what those hold; by two partial indexes, each row being in one of them. A
-- tenant without any does not come back.
select l.tenant_id, count(*) as runs, sum(l.max_cost)::bigint as held
  from (select tenant_id, max_cost from live_runs where tenant_id = any(:tenant_ids::text[]) and lease_id is null
         union all
        select tenant_id, max_cost from live_runs where tenant_id = any(:tenant_ids::text[]) and lease_id is not null) as l
 group by l.tenant_id
 order by l.tenant_id
