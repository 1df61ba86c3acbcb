-- Revoked once; asked again it stays as it was. No row: the tenant has no such key.
update api_keys
   set revoked_at = coalesce(revoked_at, dpp.now()), revoked_by = coalesce(revoked_by, :operator)
 where key_id = :key_id and tenant_id = :tenant_id
returning key_id
