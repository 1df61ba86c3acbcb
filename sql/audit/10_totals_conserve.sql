-- deposits - withdrawals ± adjusts = the sum over tenants of available + held + spent
with outside as (
  select coalesce(sum(case kind when 'deposit' then amount when 'withdraw' then -amount when 'adjust' then amount else 0 end), 0) as moved
    from transfers
),
inside as (select coalesce(sum(available + held + spent), 0) as there from budgets)
select outside.moved, inside.there from outside, inside where outside.moved <> inside.there
