-- held = the sum of the tenant's reserves that no ending has resolved
with unresolved as (
  select s.tenant_id, sum(s.max_cost) as reserved
    from submissions s
   where not exists (select from endings e where e.run_id = s.run_id)
   group by s.tenant_id
)
select b.tenant_id, b.held, coalesce(u.reserved, 0) as unresolved
  from budgets b
  left join unresolved u on u.tenant_id = b.tenant_id
 where b.held <> coalesce(u.reserved, 0)
 order by b.tenant_id
