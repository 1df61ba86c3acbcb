-- The tenures that this node id had before: whoever holds the data directory's lock knows that they are dead.
delete from node_leases where node_id = :node_id and lease_id <> :lease_id returning lease_id
