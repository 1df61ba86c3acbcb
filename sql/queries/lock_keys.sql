-- Who revokes or rotates one of these waits, and what is read in the next statement is how they are.
select key_id
  from api_keys
 where tenant_id = :tenant_id and key_id = any(:key_ids::text[])
 order by key_id
   for no key update
