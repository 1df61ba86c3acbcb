-- every allowance has used what the reserves that name it came to, less what their endings returned, and is within its limit
with fold as (
  select s.tenant_id, s.allowance_id, sum(s.max_cost - coalesce(e.returned, 0)) as used
    from submissions s
    left join endings e on e.tenant_id = s.tenant_id and e.run_id = s.run_id
   where s.allowance_id is not null
   group by s.tenant_id, s.allowance_id
)
select coalesce(w.tenant_id, f.tenant_id) as tenant_id, coalesce(w.allowance_id, f.allowance_id) as allowance_id,
       w.used, coalesce(f.used, 0) as used_folded, w.spend_limit
  from allowances w
  full join fold f on f.tenant_id = w.tenant_id and f.allowance_id = w.allowance_id
 where w.used is distinct from coalesce(f.used, 0) or w.used > w.spend_limit
 order by 1, 2
