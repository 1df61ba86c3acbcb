-- Deleted once, asked again as well; its row stays for its deliveries, without what could sign. No row: the tenant never
-- had such an endpoint.
update webhooks w
   set deleted_at = coalesce(w.deleted_at, dpp.now()), secret = '', previous_secret = null, previous_until = null
 where w.tenant_id = :tenant_id and w.webhook_id = :webhook_id
returning w.webhook_id
