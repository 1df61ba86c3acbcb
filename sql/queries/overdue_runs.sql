-- Unlocked scan: runs whose time box passed one lease ago and that their node has not ended.
select r.run_id, r.tenant_id, r.lease_id, r.lease_epoch
  from live_runs r
 where r.lease_id is not null
   and not r.storing
   and r.quarantined_at is null
   and r.deadline < dpp.now() - :grace_s::float8 * interval '1 second'
 limit :limit::int
