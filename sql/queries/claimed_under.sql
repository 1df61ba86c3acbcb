-- Every attempt stamped with this lease, as a claim returns it, but those whose fences are known. Read in a statement after the lock on the lease row.
select r.run_id, r.tenant_id, r.lease_epoch, r.max_cost, r.minimum_fee, r.timebox_s, r.priority, r.pack_type,
       r.available_at, r.attempts_spent, s.inputs, s.trace_id, s.created_at, t.plan
  from live_runs r
  join submissions s on s.tenant_id = r.tenant_id and s.run_id = r.run_id
  join tenants t on t.tenant_id = r.tenant_id
 where r.lease_id = :lease_id and r.quarantined_at is null
   and not exists (select from unnest(:run_ids::uuid[], :epochs::bigint[]) as known (run_id, lease_epoch)
                    where known.run_id = r.run_id and known.lease_epoch = r.lease_epoch)
 order by r.run_id
