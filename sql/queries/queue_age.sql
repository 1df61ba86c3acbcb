-- Seconds that the run waits which nobody has started and which expires first; no row = none waits. With one queue_ttl_s
-- on all nodes that is the oldest of them.
select greatest(0, extract(epoch from dpp.now() - available_at))::float8 as age_s
  from live_runs
 where lease_id is null and lease_epoch = 0 and quarantined_at is null
 order by expires_at
 limit 1
