-- Seconds since the delivery that is due longest became due; null = none is. A probe an endpoint that something waits for.
with recursive ends as (
  (select d.webhook_id from webhook_deliveries d where d.status = 'pending' order by d.webhook_id limit 1)
  union all
  select (select d.webhook_id
            from webhook_deliveries d
           where d.status = 'pending' and d.webhook_id > ends.webhook_id
           order by d.webhook_id
           limit 1)
    from ends
   where ends.webhook_id is not null
)
select extract(epoch from dpp.now() - min(head.next_at))::float8 as age_s
  from ends
 cross join lateral (
    select d.next_at
      from webhook_deliveries d
     where d.webhook_id = ends.webhook_id and d.status = 'pending'
     order by d.next_at
     limit 1) as head
 where head.next_at <= dpp.now()
