-- Endpoints that answered 410 at the URL which they still have: nothing more is written for them or sent to them.
update webhooks w
   set disabled_at = dpp.now(), disabled_reason = :reason
  from unnest(:webhook_ids::uuid[], :urls::text[]) as gone (webhook_id, url)
 where w.webhook_id = gone.webhook_id
   and w.url = gone.url
   and w.disabled_at is null
returning w.webhook_id, w.tenant_id
