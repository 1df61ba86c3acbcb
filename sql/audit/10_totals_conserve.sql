-- deposits - withdrawals ± adjusts, those that closing entries cover too, = the sum over tenants of available + held + spent
with outside as (
  select coalesce(sum(case m.kind when 'deposit' then m.amount when 'withdraw' then -m.amount when 'adjust' then m.amount else 0 end), 0)
           + (select coalesce(sum(deposited), 0) from closings) as moved
    from transfers m
    left join closings c on c.tenant_id = m.tenant_id
   where m.seq > coalesce(c.seq, 0)
),
inside as (select coalesce(sum(available + held + spent), 0) as there from budgets)
select outside.moved, inside.there from outside, inside where outside.moved <> inside.there
