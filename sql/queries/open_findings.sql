-- Opens findings of one tenant, whose budget is locked, and freezes its new submissions with the first. One open finding a
-- (invariant, subject): what is open already stays as it is.
with item as materialized (
  select *
    from unnest(:finding_ids::uuid[], :invariants::text[], :subjects::text[], :evidences::text[])
      as i (finding_id, invariant, subject, evidence)
),
found as (
  insert into findings (finding_id, invariant, subject, tenant_id, evidence, opened_at)
  select finding_id, invariant, subject, :tenant_id, evidence::jsonb, dpp.now() from item
  on conflict do nothing
  returning tenant_id
),
froze as (
  update tenants t set frozen_at = coalesce(t.frozen_at, dpp.now())
   where t.tenant_id = :tenant_id and exists (select from found)
  returning 1
)
select (select count(*) from found) as findings, (select count(*) from froze) as frozen
