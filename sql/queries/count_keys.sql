-- Under the tenant's lock: its good keys, those that its own keys made within a day, and what time it is.
select count(*) filter (where revoked_at is null and (expires_at is null or expires_at > dpp.now())) as alive,
       count(*) filter (where created_at > dpp.now() - interval '1 day'
                          and (created_by like 'key:%' or created_by like 'rotation:%')) as made,
       dpp.now() as now
  from api_keys
 where tenant_id = :tenant_id
