-- The tenures that this node id had before this one: whoever holds the data directory's lock knows that they are dead.
-- Only what is older than this lease, while it is there: asked late, it must not end a tenure that came after.
delete from node_leases
 where node_id = :node_id
   and tenure < (select own.tenure from node_leases own where own.lease_id = :lease_id)
returning lease_id
