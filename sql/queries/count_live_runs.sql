-- How many runs wait and work, by pack, each kind up to :counted_max and no further: each reads the index of its kind, so
-- neither the pages that a long queue left behind nor a queue of a million cost more than a few milliseconds.
select 'QUEUED' as status, queued.pack_type, count(*) as runs
  from (select pack_type from live_runs where lease_id is null limit :counted_max::int) as queued
 group by queued.pack_type
union all
select 'PROCESSING', working.pack_type, count(*)
  from (select pack_type from live_runs where lease_id is not null limit :counted_max::int) as working
 group by working.pack_type
