-- Unlocked scan: runs that were left storing their result: their lease has no row, or they are overdue. By run, in pages.
select r.run_id, r.tenant_id, r.lease_id, r.lease_epoch, r.max_cost, s.created_at
  from live_runs r
  join submissions s on s.tenant_id = r.tenant_id and s.run_id = r.run_id
 where r.storing
   and r.quarantined_at is null
   and r.run_id > coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000')
   and (not exists (select from node_leases l where l.lease_id = r.lease_id)
        or r.deadline < dpp.now() - :grace_s::float8 * interval '1 second')
 order by r.run_id
 limit :limit::int
