-- A page of a tenant's ledger, newest first, with a seq under :before (null = from the newest on). Each arm of the view is
-- read from behind by its index; where runs are past retention there are gaps, so a page is no range of numbers.
select l.seq, l.kind, l.amount, l.cost, l.returned, l.run_id, l.reference, l.reason, l.created_at
  from ledger l
 where l.tenant_id = :tenant_id
   and l.seq < coalesce(:before::bigint, 9223372036854775807)
 order by l.seq desc
 limit :limit::int
