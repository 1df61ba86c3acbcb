update nodes set drained_at = dpp.now() where node_id = :node_id
