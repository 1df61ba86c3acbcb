-- A page of a tenant's endpoints, newest first, older than :before; their ids rise with time. Never a secret.
select w.webhook_id, w.tenant_id, w.url, w.events, w.created_at, w.disabled_reason,
       case when w.previous_until > dpp.now() then w.previous_until end as previous_until
  from webhooks w
 where w.tenant_id = :tenant_id
   and w.deleted_at is null
   and w.webhook_id < coalesce(:before::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
 order by w.webhook_id desc
 limit :limit::int
