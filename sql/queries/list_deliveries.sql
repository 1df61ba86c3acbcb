-- A page of an endpoint's delivery log, newest first, before (:before_at, :before_id).
select d.delivery_id, d.event, d.run_id, d.attempts, d.status, d.response_status, d.error, d.created_at, d.next_at
  from webhook_deliveries d
 where d.webhook_id = :webhook_id
   and (d.created_at, d.delivery_id)
       < (coalesce(:before_at::timestamptz, 'infinity'),
          coalesce(:before_id::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
 order by d.created_at desc, d.delivery_id desc
 limit :limit::int
