select k.key_id, k.tenant_id, k.secret_sha256, k.scopes, k.created_at, k.expires_at,
       extract(epoch from k.expires_at - dpp.now())::float8 as expires_in_s,
       k.revoked_at is not null as revoked, t.plan, t.suspended_at is not null as suspended
  from api_keys k
  join tenants t on t.tenant_id = k.tenant_id
 where k.tenant_id = :tenant_id
 order by k.created_at, k.key_id
