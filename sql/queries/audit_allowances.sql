-- Allowances by their ids, and of all that these tenants have up to :most.
select w.tenant_id, w.allowance_id, w.spend_limit, w.used
  from allowances w
 where w.allowance_id = any(:allowance_ids::text[])
 union
(select w.tenant_id, w.allowance_id, w.spend_limit, w.used
   from allowances w
  where cardinality(:tenant_ids::text[]) > 0 and w.tenant_id = any(:tenant_ids::text[])
  limit :most::int)
 order by 1, 2
