-- A page of a tenant's runs that match, newest first, older than :before. At most :looked_max submissions are looked at, from
-- their key; `looked` says how many were, and `last_looked` where that ended. Run ids tell the time to within a day, whatever
-- their node's clock said. One row with a null run_id: none of them matches.
with looked as materialized (
  select s.run_id, s.pack_type, s.created_at
    from submissions s
   where s.tenant_id = :tenant_id
     and s.run_id < least(coalesce(:before::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
                          coalesce(dpp.first_id(:created_before::timestamptz + interval '1 day'),
                                   'ffffffff-ffff-ffff-ffff-ffffffffffff'))
     and s.run_id >= coalesce(dpp.first_id(:created_after::timestamptz - interval '1 day'),
                              '00000000-0000-0000-0000-000000000000')
   order by s.run_id desc
   limit :looked_max::int
),
page as materialized (
  select r.*
    from looked k
    join runs r on r.tenant_id = :tenant_id and r.run_id = k.run_id
   where r.status is not null -- one without is a finding, and must not cost the others of its page
     and (:status::text is null or r.status = :status)
     and (:pack_type::text is null or k.pack_type = :pack_type)
     and (:created_after::timestamptz is null or k.created_at >= :created_after)
     and (:created_before::timestamptz is null or k.created_at < :created_before)
   order by r.run_id desc
   limit :limit::int
)
select r.run_id, r.tenant_id, r.status, r.pack_type, r.idempotency_key, r.priority, r.timebox_s, r.max_cost, r.minimum_fee,
       r.policy, r.trace_id, r.created_at, r.started_at, r.finished_at, r.expires_at, r.actual_cost, r.lease_epoch,
       r.attempts_spent, r.cancel_asked, r.error_code, r.error_detail, r.result_sha256, r.metadata,
       case when r.result_expires_at > dpp.now() then r.result end as result,
       case when r.result_expires_at > dpp.now() then r.result_key end as result_key,
       r.result_expires_at, p.fraction, p.note, span.looked, span.last_looked
  from (select count(*) as looked, min(run_id::text)::uuid as last_looked from looked) as span
  left join page r on true
  left join lateral (
       select e.fraction, e.note from run_events e
        where e.run_id = r.run_id and e.lease_epoch = r.lease_epoch and e.kind = 'progress'
        order by e.n desc limit 1) as p on true
 order by r.run_id desc
