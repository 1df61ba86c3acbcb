-- The node's own row: outlives its leases, tells when it was last heard of and whether it left in order.
insert into nodes (node_id, last_heartbeat, drained_at)
values (:node_id, dpp.now(), null)
on conflict (node_id) do update set last_heartbeat = dpp.now(), drained_at = null
