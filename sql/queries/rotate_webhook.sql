-- A new secret; the one before it signs too, for :previous_s. Asked again with the same secret, nothing changes.
update webhooks w
   set secret = :secret, previous_secret = w.secret, previous_until = dpp.now() + :previous_s::int * interval '1 second'
 where w.tenant_id = :tenant_id and w.webhook_id = :webhook_id and w.deleted_at is null and w.secret <> :secret
   and w.previous_secret is distinct from :secret
returning w.webhook_id
