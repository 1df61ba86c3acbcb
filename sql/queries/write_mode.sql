-- A mode for all nodes, once per :change_id, and the line of the trail that it is.
with added as (
  insert into modes (change_id, mode, reason, operator, set_at, expires_at)
  values (:change_id, :mode, :reason, :operator, dpp.now(), dpp.now() + :expires_in_s::int * interval '1 second')
  on conflict (change_id) do nothing
  returning mode, reason, operator, set_at, expires_at
)
select mode, reason, operator, set_at, expires_at from added
union all
select mode, reason, operator, set_at, expires_at from modes where change_id = :change_id
