-- No row: there is no such tenant, or another key of this id.
insert into api_keys
  (key_id, tenant_id, secret_sha256, scopes, created_at, created_by, expires_at, allowance_id)
select :key_id, t.tenant_id, :secret_sha256, :scopes::text[], dpp.now(), :operator,
       coalesce(:expires_at::timestamptz, dpp.now() + :lives_s::int * interval '1 second'), :allowance_id::text
  from tenants t
 where t.tenant_id = :tenant_id
on conflict (key_id) do update set key_id = excluded.key_id
 where api_keys.secret_sha256 = excluded.secret_sha256
returning key_id
