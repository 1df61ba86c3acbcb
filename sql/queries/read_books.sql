-- Second statement of a submit, with a snapshot after the lock: one row a tenant, with the keys asked for that name a
-- run already or named one that was pruned, the API keys asked with that are dead, and the allowances of the others.
-- `queued` counts only as far as the tenant's own plan asks (:queued_maxes, 0 = it does not): with a hundred thousand
-- waiting it would be the dearest part. Endpoints are read where a run names a URL of its own.
with asked as materialized (
  select * from unnest(:tenant_ids::text[], :idempotency_keys::text[]) as a (tenant_id, idempotency_key)
),
earlier as (
  select a.tenant_id,
         array_agg(s.idempotency_key) as idempotency_keys,
         array_agg(s.run_id) as run_ids,
         array_agg(s.fingerprint) as fingerprints
    from asked a
    join submissions s on s.tenant_id = a.tenant_id and s.idempotency_key = a.idempotency_key
   group by a.tenant_id
),
pruned as (
  select a.tenant_id,
         array_agg(k.idempotency_key) as idempotency_keys,
         array_agg(k.run_id) as run_ids,
         array_agg(k.fingerprint) as fingerprints
    from asked a
    join spent_keys k on k.tenant_id = a.tenant_id and k.idempotency_key = a.idempotency_key
   group by a.tenant_id
),
asking as (
  select k.tenant_id,
         array_agg(k.key_id) filter (where k.revoked_at is not null or k.expires_at <= dpp.now()) as dead_keys,
         array_agg(k.key_id) filter (where w.allowance_id is not null) as key_ids,
         array_agg(w.allowance_id) filter (where w.allowance_id is not null) as allowance_ids,
         array_agg(w.spend_limit) filter (where w.allowance_id is not null) as spend_limits,
         array_agg(w.used) filter (where w.allowance_id is not null) as useds
    from api_keys k
    left join allowances w on w.allowance_id = k.allowance_id
   where k.key_id = any(:key_ids::text[])
   group by k.tenant_id
),
endpoint as (
  select w.tenant_id, array_agg(w.url) as urls
    from webhooks w
   where w.tenant_id = any(:notified_ids::text[]) and w.deleted_at is null and w.disabled_at is null
     and w.events <> array['budget.low']
   group by w.tenant_id
)
select t.tenant_id, t.plan, t.suspended_at is not null as suspended, t.frozen_at is not null as frozen,
       (select count(*)
          from (select 1 from live_runs r
                 where r.tenant_id = t.tenant_id and r.lease_id is null
                 limit coalesce((select p.queued_max
                                   from unnest(:plans::text[], :queued_maxes::int[]) as p (plan, queued_max)
                                  where p.plan = t.plan), 0)) as q) as queued,
       earlier.idempotency_keys, earlier.run_ids, earlier.fingerprints,
       pruned.idempotency_keys as pruned_keys, pruned.run_ids as pruned_ids, pruned.fingerprints as pruned_fingerprints,
       asking.dead_keys, asking.key_ids, asking.allowance_ids, asking.spend_limits, asking.useds, endpoint.urls,
       (select mode from mode_in_force) as mode, (select left_s from mode_in_force) as mode_left_s,
       dpp.now() as now
  from tenants t
  left join earlier on earlier.tenant_id = t.tenant_id
  left join pruned on pruned.tenant_id = t.tenant_id
  left join asking on asking.tenant_id = t.tenant_id
  left join endpoint on endpoint.tenant_id = t.tenant_id
 where t.tenant_id = any(:tenant_ids::text[])
 order by t.tenant_id
