-- When nodes were last heard of, the latest first, of those that were in the last :within_s and did not leave in order.
-- A node's row outlives its leases, so the dead stand here too.
select node_id, extract(epoch from last_heartbeat)::float8 as heard_at
  from nodes
 where drained_at is null
   and last_heartbeat > dpp.now() - :within_s::float8 * interval '1 second'
 order by last_heartbeat desc, node_id
 limit :limit::int
