-- Findings by their ids, open or resolved.
select finding_id, invariant, subject, tenant_id, evidence::text as evidence, opened_at, resolved_at,
       resolution::text as resolution
  from findings where finding_id = any(:finding_ids::uuid[]) order by opened_at, finding_id
