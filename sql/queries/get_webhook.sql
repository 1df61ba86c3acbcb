-- One endpoint of a tenant that was not deleted; never its secret.
select w.webhook_id, w.tenant_id, w.url, w.events, w.created_at, w.disabled_reason,
       case when w.previous_until > dpp.now() then w.previous_until end as previous_until
  from webhooks w
 where w.tenant_id = :tenant_id and w.webhook_id = :webhook_id and w.deleted_at is null
