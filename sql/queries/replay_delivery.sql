-- Due again, its attempts anew; what is on its way just now may arrive once more. No row: there is no such delivery.
update webhook_deliveries d
   set status = 'pending', attempts = 0, next_at = dpp.now(), response_status = null, error = null, delivered_at = null
 where d.webhook_id = :webhook_id and d.delivery_id = :delivery_id and d.tenant_id = :tenant_id
returning d.delivery_id, d.event, d.run_id, d.attempts, d.status, d.response_status, d.error, d.created_at, d.next_at
