-- A new endpoint; no row: the tenant has :most already, or there is one of this id. The tenant's row is locked.
insert into webhooks (webhook_id, tenant_id, url, events, secret, created_at)
select :webhook_id, :tenant_id, :url, :events::text[], :secret, dpp.now()
 where (select count(*) from webhooks w where w.tenant_id = :tenant_id and w.deleted_at is null) < :most::int
on conflict (webhook_id) do nothing
returning webhook_id
