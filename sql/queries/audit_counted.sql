-- What reserves in windows of ledgers count, less what endings in them returned, by the day and the allowance of the
-- reserve; `seq`: the last reserve of a group. One probe an ending finds its reserve, wherever that stands.
with piece as materialized (
  select *
    from unnest(:tenant_ids::text[], :afters::bigint[], :untils::bigint[]) as p (tenant_id, after_seq, until_seq)
),
moved as (
  select p.tenant_id, f.budget_day, f.allowance_id, f.seq, f.max_cost as amount
    from piece p
   cross join lateral (select budget_day, allowance_id, seq, max_cost from submissions s
                        where s.tenant_id = p.tenant_id and s.seq > p.after_seq and s.seq <= p.until_seq offset 0) as f
   union all
  select p.tenant_id, r.budget_day, r.allowance_id, null, -f.returned
    from piece p
   cross join lateral (select run_id, returned from endings e
                        where e.tenant_id = p.tenant_id and e.seq > p.after_seq and e.seq <= p.until_seq offset 0) as f
   cross join lateral (select budget_day, allowance_id from submissions s
                        where s.tenant_id = p.tenant_id and s.run_id = f.run_id offset 0) as r
)
select tenant_id, budget_day, allowance_id, max(seq) as seq, sum(amount)::bigint as amount
  from moved
 group by 1, 2, 3
 order by 1, 2, 3
