-- What ended in windows of ledgers, by its UTC day.
with piece as materialized (
  select *
    from unnest(:tenant_ids::text[], :afters::bigint[], :untils::bigint[]) as p (tenant_id, after_seq, until_seq)
)
select p.tenant_id, (f.finished_at at time zone 'utc')::date as day, count(*) as runs,
       count(*) filter (where f.status = 'COMPLETED') as completed,
       count(*) filter (where f.status = 'FAILED') as failed,
       sum(f.cost)::bigint as cost, sum(f.cost + f.returned)::bigint as reserved
  from piece p
 cross join lateral (select finished_at, status, cost, returned from endings e
                      where e.tenant_id = p.tenant_id and e.seq > p.after_seq and e.seq <= p.until_seq offset 0) as f
 group by 1, 2
 order by 1, 2
