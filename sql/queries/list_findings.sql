select finding_id, invariant, subject, tenant_id, evidence::text as evidence, opened_at
  from findings where resolved_at is null order by opened_at, finding_id
