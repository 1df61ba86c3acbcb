-- The newest key that a rotation of another one made.
select key_id
  from api_keys
 where tenant_id = :tenant_id and created_by = :created_by
 order by created_at desc, key_id desc
 limit 1
