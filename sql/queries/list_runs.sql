-- A page of a tenant's runs, newest first, older than :before: from the key of submissions, then probes a row.
select r.run_id, r.tenant_id, r.status, r.pack_type, r.idempotency_key, r.priority, r.timebox_s, r.max_cost, r.minimum_fee,
       r.policy, r.trace_id, r.created_at, r.started_at, r.finished_at, r.expires_at, r.actual_cost, r.lease_epoch,
       r.attempts_spent, r.cancel_asked, r.error_code, r.error_detail, r.result_sha256, r.result, r.result_key,
       p.fraction, p.note
  from runs r
  left join lateral (
       select e.fraction, e.note from run_events e
        where e.run_id = r.run_id and e.lease_epoch = r.lease_epoch and e.kind = 'progress'
        order by e.n desc limit 1) as p on true
 where r.tenant_id = :tenant_id
   and r.status is not null -- one without is a finding, and must not cost the others of its page
   and r.run_id < coalesce(:before::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
 order by r.run_id desc
 limit :limit::int
