-- Second statement of a submit, with a snapshot after the lock: one row a tenant, with the keys asked for that name a
-- run already, and the API keys asked with that are dead. `queued` counts only as far as a plan can ask (:queued_max).
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
)
select t.tenant_id, t.plan, t.suspended_at is not null as suspended, t.frozen_at is not null as frozen,
       (select count(*)
          from (select 1 from live_runs r
                 where r.tenant_id = t.tenant_id and r.lease_id is null limit :queued_max) as q) as queued,
       earlier.idempotency_keys, earlier.run_ids, earlier.fingerprints,
       array(select k.key_id from api_keys k
              where k.key_id = any(:key_ids::text[]) and k.tenant_id = t.tenant_id
                and (k.revoked_at is not null or k.expires_at <= dpp.now())) as dead_keys,
       dpp.now() as now
  from tenants t
  left join earlier on earlier.tenant_id = t.tenant_id
 where t.tenant_id = any(:tenant_ids::text[])
 order by t.tenant_id
