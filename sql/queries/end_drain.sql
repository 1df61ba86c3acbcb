-- Lets a node work again.
update nodes
   set drain_asked_at = null, drain_operator = null, drain_reason = null
 where node_id = :node_id
returning node_id
