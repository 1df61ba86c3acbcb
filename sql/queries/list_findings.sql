select finding_id, invariant, subject, tenant_id, evidence::text as evidence, opened_at, resolved_at,
       resolution::text as resolution
  from findings where resolved_at is null order by opened_at, finding_id
