-- Second statement of a claim: now that the turns are ours, look again that the lease lives, count exactly, and stamp due
-- runs, of each tenant at most its share.
-- Priority by priority within a tenant, so runs not due yet are never walked over; :lows has ten bounds a tenant. Each
-- :aged_s of waiting makes up for one priority: a look at the heads of the ten says how many places each of them has.
-- Of them it claims what begins within :bytes of inputs, one run at least, taking the tenants' first ones before their second
-- ones: an answer must come in time. What was locked beyond that is free again when the claim is over. A row that nobody
-- submitted is stamped too, and not returned: the next renewal finds it, and it is set aside.
-- NB: the update names run_id alone. The rows of `due` are locked and QUEUED, and with "lease_id is null" beside it the
-- planner may read the whole queue through the partial index.
with room as materialized (
  select w.tenant_id, w.n,
         case when w.cap is null then w.share::bigint
              else least(w.share::bigint,
                         w.cap - (select count(*) from live_runs r
                                   where r.lease_id is not null and r.tenant_id = w.tenant_id
                                     and r.quarantined_at is null))
         end as free
    from unnest(:tenant_ids::text[], :caps::int[], :shares::int[]) with ordinality as w (tenant_id, cap, share, n)
   where exists (select from node_leases where lease_id = :lease_id and lease_until > dpp.now())
),
head as materialized (
  select room.tenant_id, first.priority, first.low, count(*) as places
    from room
   cross join lateral (
      select p.priority, p.low
        from (select q.priority::smallint as priority,
                     coalesce((:lows::timestamptz[])[(room.n - 1) * 10 + q.priority + 1], '-infinity') as low
                from generate_series(0, 9) as q (priority)) as p
       cross join lateral (
          select r.available_at
            from live_runs r
           where r.tenant_id = room.tenant_id
             and r.lease_id is null
             and r.priority = p.priority
             and r.available_at <= dpp.now()
             and r.available_at >= p.low
             and r.quarantined_at is null
             and (r.expires_at > dpp.now() or r.lease_epoch > 0)
             and r.pack_type = any(:packs::text[])
           order by r.available_at
           limit greatest(room.free, 0)) as r
       order by r.available_at + p.priority * :aged_s::int * interval '1 second'
       limit greatest(room.free, 0)) as first
   group by room.tenant_id, first.priority, first.low
),
due as materialized (
  select one.*
    from head
   cross join lateral (
      select r.run_id, r.tenant_id, r.priority, r.available_at
        from live_runs r
       where r.tenant_id = head.tenant_id
         and r.lease_id is null
         and r.priority = head.priority
         and r.available_at <= dpp.now()
         and r.available_at >= head.low
         and r.quarantined_at is null
         and (r.expires_at > dpp.now() or r.lease_epoch > 0)
         and r.pack_type = any(:packs::text[])
       order by r.available_at
       limit head.places
         for no key update skip locked) as one
),
sized as materialized (
  select d.run_id, s.run_id is not null as submitted, s.inputs, s.trace_id, s.created_at,
         sum(w.bytes) over (order by d.place, d.tenant_id) - w.bytes as before
    from (select due.*, row_number() over (partition by tenant_id order by priority, available_at, run_id) as place
            from due) as d
    left join submissions s on s.tenant_id = d.tenant_id and s.run_id = d.run_id
   cross join lateral (select coalesce(octet_length(s.inputs), 0) as bytes) as w
),
claimed as (
  update live_runs r
     set lease_id = :lease_id,
         lease_epoch = r.lease_epoch + 1,
         storing = false,
         started_at = coalesce(r.started_at, dpp.now()),
         deadline = dpp.now() + r.timebox_s * interval '1 second'
   where r.run_id = any(array(select sized.run_id from sized where sized.before < :bytes))
  returning r.run_id, r.tenant_id, r.lease_epoch, r.max_cost, r.minimum_fee, r.timebox_s, r.priority, r.pack_type,
            r.available_at, r.attempts_spent
)
select c.*, s.inputs, s.trace_id, s.created_at
  from claimed c
  join sized s on s.run_id = c.run_id and s.submitted
 order by c.priority, c.available_at, c.run_id
