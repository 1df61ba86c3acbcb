-- Every node whose row is there, with its lease where one lives; of two the one that lasts longer. :node_id null = all.
select n.node_id, n.last_heartbeat, n.drained_at, n.reported_at, n.host, n.version, n.runs, n.concurrency, n.loops::text as loops,
       n.drain_asked_at, n.drain_operator, n.drain_reason, dpp.now() as now,
       (select max(l.lease_until) from node_leases l where l.node_id = n.node_id and l.lease_until > dpp.now()) as lease_until
  from nodes n
 where :node_id::text is null or n.node_id = :node_id
 order by n.node_id
