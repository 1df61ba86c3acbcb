-- When keys were last used; at most hourly a key, whichever node asks. One that somebody holds is left to another time.
with used as (
  select key_id, dpp.now() - age_s * interval '1 second' as used_at
    from unnest(:key_ids::text[], :ages_s::float8[]) as u (key_id, age_s)
),
due as materialized (
  select k.key_id, used.used_at
    from api_keys k
    join used on used.key_id = k.key_id
   where k.last_used_at is null or k.last_used_at <= used.used_at - interval '1 hour'
   order by k.key_id
     for no key update of k skip locked
)
update api_keys k set last_used_at = due.used_at from due where k.key_id = due.key_id
returning k.key_id
