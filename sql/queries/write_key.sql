-- No row: there is no such tenant.
insert into api_keys (key_id, tenant_id, secret_sha256, scopes, created_at, created_by, expires_at)
select :key_id, t.tenant_id, :secret_sha256, :scopes::text[], dpp.now(), :operator,
       dpp.now() + :lives_s::int * interval '1 second'
  from tenants t
 where t.tenant_id = :tenant_id
on conflict (key_id) do update set key_id = excluded.key_id
 where api_keys.secret_sha256 = excluded.secret_sha256
returning key_id
