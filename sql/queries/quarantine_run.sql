-- Sets a run aside whose ending the database refused, if nobody took it since. Touches no money: the finding, the mark, and the freeze of the
-- tenant's new submissions, which stands on tenants because the budget row may be the one refused.
with set_aside as (
  update live_runs set quarantined_at = dpp.now()
   where run_id = :run_id
     and lease_id is not distinct from :lease_id::uuid
     and lease_epoch = :lease_epoch
     and quarantined_at is null
  returning run_id, tenant_id
),
found as (
  insert into findings (finding_id, invariant, subject, tenant_id, evidence, opened_at)
  select :finding_id, 'write_refused', run_id::text, tenant_id, :evidence::text::jsonb, dpp.now() from set_aside
  on conflict do nothing
  returning tenant_id
),
froze as (
  update tenants t set frozen_at = coalesce(t.frozen_at, dpp.now())
    from found f where t.tenant_id = f.tenant_id
  returning 1
)
-- `before`: this very finding is there already, its answer was lost.
select (select count(*) from set_aside) as runs, (select count(*) from found) as findings, (select count(*) from froze) as frozen,
       (select count(*) from findings where finding_id = :finding_id) as before
