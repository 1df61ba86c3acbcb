-- One run of a tenant: index probes in one snapshot. A row whose status is null is neither live nor ended: a finding.
select r.run_id, r.tenant_id, r.status, r.pack_type, r.idempotency_key, r.priority, r.timebox_s, r.max_cost, r.minimum_fee,
       r.policy, r.trace_id, r.created_at, r.started_at, r.finished_at, r.expires_at, r.actual_cost, r.lease_epoch,
       r.attempts_spent, r.cancel_asked, r.error_code, r.error_detail, r.result_sha256, r.metadata,
       case when r.result_expires_at > dpp.now() then r.result end as result,
       case when r.result_expires_at > dpp.now() then r.result_key end as result_key,
       r.result_expires_at,
       p.fraction, p.note
  from runs r
  left join lateral (
       select e.fraction, e.note from run_events e
        where e.run_id = r.run_id and e.lease_epoch = r.lease_epoch and e.kind = 'progress'
        order by e.n desc limit 1) as p on true
 where r.tenant_id = :tenant_id and r.run_id = :run_id
