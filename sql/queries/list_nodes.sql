select node_id, lease_id, lease_until from node_leases where lease_until > dpp.now() order by node_id, lease_until
