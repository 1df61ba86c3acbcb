-- Unlocked scan: runs that nobody ever started before they expired.
select r.run_id, r.tenant_id, r.lease_id, r.lease_epoch
  from live_runs r
 where r.lease_id is null
   and r.lease_epoch = 0
   and r.expires_at <= dpp.now()
   and r.quarantined_at is null
 order by r.expires_at
 limit :limit::int
