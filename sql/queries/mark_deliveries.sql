-- What became of some attempts, those that are still the last of their delivery; a late word that it arrived counts all
-- the same. Locked in the order of their ids: two nodes may have the same ones.
with told as (
  select *
    from unnest(:delivery_ids::uuid[], :attempts::int[], :delivered::bool[], :statuses::int[], :errors::text[],
                :retries::float8[]) as m (delivery_id, attempts, delivered, response_status, error, retry_s)
),
locked as materialized (
  select d.delivery_id
    from webhook_deliveries d
   where d.delivery_id = any(:delivery_ids::uuid[])
   order by d.delivery_id
     for no key update
)
update webhook_deliveries d
   set status = case when told.delivered then 'delivered' when told.retry_s is null then 'failed' else 'pending' end,
       next_at = case when not told.delivered then dpp.now() + told.retry_s * interval '1 second' end,
       response_status = told.response_status,
       error = told.error,
       delivered_at = case when told.delivered then dpp.now() end
  from told
 where d.delivery_id = told.delivery_id
   and d.delivery_id in (select locked.delivery_id from locked)
   and (d.status = 'pending' and d.attempts = told.attempts
        or d.status <> 'delivered' and told.delivered and d.attempts >= told.attempts)
returning d.delivery_id
