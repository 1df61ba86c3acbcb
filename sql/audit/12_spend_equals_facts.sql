-- a budget row counts as spent, on the day of its last reserve and in that day's month, what their reserves came to, less
-- what their endings returned
with counted as materialized (
  select s.tenant_id, s.budget_day, max(s.seq) as seq, sum(s.max_cost - coalesce(e.returned, 0)) as spend
    from submissions s
    left join endings e on e.tenant_id = s.tenant_id and e.run_id = s.run_id
   group by s.tenant_id, s.budget_day
),
folded as (
  select b.tenant_id, b.spend_day, b.day_spend, b.month_spend, coalesce(last.budget_day, '1970-01-01') as last_day,
         coalesce(sum(c.spend) filter (where c.budget_day = b.spend_day), 0) as of_day,
         coalesce(sum(c.spend) filter (where date_trunc('month', c.budget_day) = date_trunc('month', b.spend_day)), 0) as of_month
    from budgets b
    left join (select distinct on (tenant_id) tenant_id, budget_day
                 from counted
                order by tenant_id, seq desc) as last on last.tenant_id = b.tenant_id
    left join counted c on c.tenant_id = b.tenant_id
   group by b.tenant_id, b.spend_day, b.day_spend, b.month_spend, last.budget_day
)
select tenant_id, spend_day, last_day as spend_day_folded, null::text as day, null as month,
       null::bigint as spend, null::bigint as spend_folded
  from folded
 where spend_day <> last_day
union all
select tenant_id, spend_day, last_day, spend_day::text, null, day_spend, of_day
  from folded
 where spend_day = last_day and day_spend <> of_day
union all
select tenant_id, spend_day, last_day, null, to_char(spend_day, 'YYYY-MM'), month_spend, of_month
  from folded
 where spend_day = last_day and month_spend <> of_month
 order by 1, 4, 5
