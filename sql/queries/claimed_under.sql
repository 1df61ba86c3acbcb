-- Every attempt stamped with this lease, as a claim returns it. Read in a statement after the lock on the lease row.
select r.run_id, r.tenant_id, r.lease_epoch, r.max_cost, r.minimum_fee, r.timebox_s, r.priority, r.pack_type,
       r.available_at, r.attempts_spent, s.trace_id, s.created_at, t.plan,
       case when sum(octet_length(s.inputs)) over (order by r.run_id) <= :bytes then s.inputs end as inputs
  from live_runs r
  join submissions s on s.tenant_id = r.tenant_id and s.run_id = r.run_id
  join tenants t on t.tenant_id = r.tenant_id
 where r.lease_id = :lease_id and r.quarantined_at is null
 order by r.run_id
