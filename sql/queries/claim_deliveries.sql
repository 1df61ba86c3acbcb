-- Claims due deliveries, a few of each endpoint: hidden for :hold_s, so that nobody else sends them meanwhile, and that
-- they come again where their node dies. Endpoint by endpoint after :after, by a loose scan: however much waits for one
-- that is slow or down, the others have their turn. Rows that somebody holds are passed over; nothing is waited for.
-- :rooms of the endpoints :busy_ids, which have something on their way; all others have :per_endpoint. Of all endpoints
-- of a tenant together no more than :tenant_rooms of :busy_tenants, all others have :per_tenant: what is locked past that
-- is left as it was.
-- What can never be sent ends here, its :over said: its endpoint is disabled or gone, or none of its attempts was ever
-- heard of again.
with recursive ends as (
  (select d.webhook_id
     from webhook_deliveries d
    where d.status = 'pending'
      and d.webhook_id > coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'::uuid)
    order by d.webhook_id
    limit 1)
  union all
  select (select d.webhook_id
            from webhook_deliveries d
           where d.status = 'pending' and d.webhook_id > ends.webhook_id
           order by d.webhook_id
           limit 1)
    from ends
   where ends.webhook_id is not null
),
endpoints as materialized ( -- in their order, however many of them are busy: the planner may lose it in a join
  select ends.webhook_id,
         w.webhook_id is null or w.deleted_at is not null or w.disabled_at is not null as is_off,
         coalesce(busy.room, :per_endpoint::int) as room,
         coalesce(held.room, :per_tenant::int) as tenant_room
    from ends
    left join webhooks w on w.webhook_id = ends.webhook_id
    left join unnest(:busy_ids::uuid[], :rooms::int[]) as busy (webhook_id, room) on busy.webhook_id = ends.webhook_id
    left join unnest(:busy_tenants::text[], :tenant_rooms::int[]) as held (tenant_id, room)
      on held.tenant_id = w.tenant_id
   where ends.webhook_id is not null
   order by ends.webhook_id
),
heads as materialized (
  select head.*, e.tenant_room
    from endpoints e
   cross join lateral (
      select d.delivery_id, d.webhook_id, d.tenant_id, d.attempts, d.next_at
        from webhook_deliveries d
       where d.webhook_id = e.webhook_id
         and d.status = 'pending'
         and d.next_at <= dpp.now()
       order by d.next_at
       limit least(e.room, e.tenant_room)
         for no key update of d skip locked) as head
   where not e.is_off
   limit :limit::int
),
due as materialized (
  select ranked.delivery_id, ranked.webhook_id, ranked.attempts
    from (select heads.*,
                 row_number() over (partition by heads.tenant_id order by heads.webhook_id, heads.next_at) as nth
            from heads) as ranked
   where ranked.nth <= ranked.tenant_room
),
dead as materialized ( -- beside the others, and never in their places
  select head.*
    from endpoints e
   cross join lateral (
      select d.delivery_id, d.webhook_id, d.attempts
        from webhook_deliveries d
       where d.webhook_id = e.webhook_id
         and d.status = 'pending'
         and d.next_at <= dpp.now()
       order by d.next_at
       limit :limit::int
         for no key update of d skip locked) as head
   where e.is_off
   limit :limit::int
),
judged as materialized (
  select due.delivery_id,
         case when w.webhook_id is null or w.deleted_at is not null then 'the endpoint was deleted'
              when w.disabled_at is not null then 'the endpoint is disabled'
              when due.attempts >= :attempts_max::int then 'no attempt was heard of again'
         end as over
    from (select * from due union all select * from dead) as due
    left join webhooks w on w.webhook_id = due.webhook_id
),
taken as (
  update webhook_deliveries d
     set attempts = d.attempts + case when j.over is null then 1 else 0 end,
         status = case when j.over is null then 'pending' else 'failed' end,
         next_at = case when j.over is null then dpp.now() + :hold_s::float8 * interval '1 second' end,
         error = coalesce(j.over, d.error)
    from judged j
   where d.delivery_id = j.delivery_id
  returning d.delivery_id, d.tenant_id, d.webhook_id, d.event, d.run_id, d.attempts, d.created_at, d.detail, j.over
)
select t.delivery_id, t.tenant_id, t.webhook_id, t.event, t.run_id, t.attempts, t.created_at, t.detail, t.over,
       dpp.now() as now, w.url, s.webhook_url, w.secret,
       case when w.previous_until > dpp.now() then w.previous_secret end as previous_secret,
       e.status as run_status, s.pack_type, s.idempotency_key, e.attempts_spent, s.created_at as submitted_at,
       e.started_at, e.finished_at, s.max_cost, e.cost, e.error_code, e.result_sha256, s.metadata, s.trace_id
  from taken t
  left join webhooks w on w.webhook_id = t.webhook_id
  left join submissions s on s.tenant_id = t.tenant_id and s.run_id = t.run_id
  left join endings e on e.run_id = t.run_id
 order by t.created_at, t.delivery_id
