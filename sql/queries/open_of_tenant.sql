-- Whether a finding of this invariant is open for the tenant.
select 1 from findings where tenant_id = :tenant_id and invariant = :invariant and resolved_at is null limit 1
