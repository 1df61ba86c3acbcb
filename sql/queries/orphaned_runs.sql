-- Unlocked scan: PROCESSING runs whose lease has no row at all. What takes them back names what was seen here.
select r.run_id, r.tenant_id, r.lease_id, r.lease_epoch
  from live_runs r
 where r.lease_id is not null
   and not r.storing
   and r.quarantined_at is null
   and not exists (select from node_leases l where l.lease_id = r.lease_id)
 limit :limit::int
