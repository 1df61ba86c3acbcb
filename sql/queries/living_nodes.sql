-- Every node with a lease that lives, and the digest of what it offers; of two tenures of a node the younger one's.
select distinct on (node_id) node_id, digest
  from node_leases
 where lease_until > dpp.now()
 order by node_id, tenure desc
