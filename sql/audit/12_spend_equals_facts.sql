-- a budget row counts as spent, on the day of its last reserve and in that day's month, what their reserves came to, less
-- what their endings returned; what the closing entry covers, as that has it
with moved as (
  select s.tenant_id, s.budget_day, s.seq, s.max_cost as spend
    from submissions s
    left join closings c on c.tenant_id = s.tenant_id
   where s.seq > coalesce(c.seq, 0)
   union all
  select s.tenant_id, s.budget_day, null, -e.returned
    from endings e
    join submissions s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
    left join closings c on c.tenant_id = e.tenant_id
   where e.seq > coalesce(c.seq, 0)
   union all
  select tenant_id, spend_day, spend_seq, day_spend from closings where spend_seq > 0
   union all                                   -- the days of its month but the last, as one: no budget row has that for its day
  select tenant_id, date_trunc('month', spend_day)::date, null, month_spend - day_spend
    from closings
   where extract(day from spend_day) > 1
),
counted as materialized (
  select tenant_id, budget_day, max(seq) as seq, sum(spend) as spend from moved group by tenant_id, budget_day
),
folded as (
  select b.tenant_id, b.spend_day, b.day_spend, b.month_spend, coalesce(last.budget_day, '1970-01-01') as last_day,
         coalesce(sum(c.spend) filter (where c.budget_day = b.spend_day), 0) as of_day,
         coalesce(sum(c.spend) filter (where date_trunc('month', c.budget_day) = date_trunc('month', b.spend_day)), 0) as of_month
    from budgets b
    left join (select distinct on (tenant_id) tenant_id, budget_day
                 from counted
                where seq is not null
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
