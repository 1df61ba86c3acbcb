-- A key with its tenant's plan and its allowance; what is left of its life is counted by this clock.
select k.key_id, k.tenant_id, k.secret_sha256, k.scopes, k.created_at, k.created_by, k.expires_at, k.last_used_at,
       extract(epoch from k.expires_at - dpp.now())::float8 as expires_in_s,
       k.revoked_at is not null as revoked, t.plan, t.suspended_at is not null as suspended,
       a.allowance_id, a.spend_limit, a.used
  from api_keys k
  join tenants t on t.tenant_id = k.tenant_id
  left join allowances a on a.allowance_id = k.allowance_id
 where k.key_id = :key_id
