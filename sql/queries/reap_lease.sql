-- One lapsed lease that nobody holds; a locked one is left to the next pass. Its runs are then orphans.
with lapsed as materialized (
  select lease_id from node_leases where lease_until <= dpp.now() order by lease_until limit 1 for update skip locked
)
delete from node_leases
 where lease_id = any(array(select lease_id from lapsed))
returning lease_id, node_id
