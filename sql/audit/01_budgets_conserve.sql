-- every budget row conserves: deposited = available + held + spent, and no part is negative
select tenant_id, deposited, available, held, spent
  from budgets
 where available + held + spent <> deposited or least(deposited, available, held, spent) < 0
 order by tenant_id
