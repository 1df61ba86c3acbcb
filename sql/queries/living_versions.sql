-- Every node with a lease that lives: the digest of what it offers, by its younger tenure, and the version that it told last.
select distinct on (l.node_id) l.node_id, l.digest, n.version
  from node_leases l
  left join nodes n on n.node_id = l.node_id
 where l.lease_until > dpp.now()
 order by l.node_id, l.tenure desc
