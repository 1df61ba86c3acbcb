-- A page of a tenant's ledger, newest first, with a seq under :before (null = from the newest on). The sequence has no
-- gap, so a page is a range of it and each arm of the view reads just that range.
with page as materialized (
  select least(:before::bigint, b.seq + 1) as before from budgets b where b.tenant_id = :tenant_id
)
select l.seq, l.kind, l.amount, l.cost, l.returned, l.run_id, l.reference, l.reason, l.created_at
  from ledger l
 where l.tenant_id = :tenant_id
   and l.seq < (select before from page)
   and l.seq >= (select before from page) - :limit::int
 order by l.seq desc
