-- Asks a node to drain; asked of one that does so already, the first asking stands.
update nodes
   set drain_asked_at = coalesce(drain_asked_at, dpp.now()),
       drain_operator = coalesce(drain_operator, :operator),
       drain_reason = coalesce(drain_reason, :reason)
 where node_id = :node_id
returning node_id
