-- A tenant's closing entry, locked; no row: somebody else closes or prunes now, or an open finding holds the books.
select c.seq
  from closings c
  join tenants t on t.tenant_id = c.tenant_id
 where c.tenant_id = :tenant_id and t.frozen_at is null
   for no key update of c skip locked
