-- A page of a tenant's keys, newest first, behind (:before_at, :before_id); those that have ended only where asked for.
with page as materialized (
  select *
    from api_keys
   where tenant_id = :tenant_id
     and (:before_at::timestamptz is null or (created_at, key_id) < (:before_at, :before_id::text))
     and (:ended::boolean or (revoked_at is null and (expires_at is null or expires_at > dpp.now())))
   order by created_at desc, key_id desc
   limit :limit
)
select k.key_id, k.tenant_id, k.secret_sha256, k.scopes, k.created_at, k.created_by, k.expires_at, k.last_used_at,
       extract(epoch from k.expires_at - dpp.now())::float8 as expires_in_s,
       k.revoked_at is not null as revoked, t.plan, t.suspended_at is not null as suspended,
       a.allowance_id, a.spend_limit, a.used
  from page k
  join tenants t on t.tenant_id = k.tenant_id
  left join allowances a on a.allowance_id = k.allowance_id
 order by k.created_at desc, k.key_id desc
