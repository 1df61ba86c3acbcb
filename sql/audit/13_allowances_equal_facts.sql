-- every allowance has used what the closing entry says and what the reserves behind it that name it came to, less what
-- endings behind it returned, and is within its limit
with moved as (
  select s.tenant_id, s.allowance_id, s.max_cost as used
    from submissions s
    left join closings c on c.tenant_id = s.tenant_id
   where s.allowance_id is not null and s.seq > coalesce(c.seq, 0)
   union all
  select s.tenant_id, s.allowance_id, -e.returned
    from endings e
    join submissions s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
    left join closings c on c.tenant_id = e.tenant_id
   where s.allowance_id is not null and e.seq > coalesce(c.seq, 0)
   union all
  select tenant_id, allowance_id, used from closed_allowances
),
fold as (select tenant_id, allowance_id, sum(used) as used from moved group by tenant_id, allowance_id)
select coalesce(w.tenant_id, f.tenant_id) as tenant_id, coalesce(w.allowance_id, f.allowance_id) as allowance_id,
       w.used, coalesce(f.used, 0) as used_folded, w.spend_limit
  from allowances w
  full join fold f on f.tenant_id = w.tenant_id and f.allowance_id = w.allowance_id
 where w.used is distinct from coalesce(f.used, 0) or w.used > w.spend_limit
 order by 1, 2
