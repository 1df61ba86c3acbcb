-- Second of a renewal. No row: the lease has lapsed or was ended, and is never renewed again.
update node_leases
   set lease_until = dpp.now() + :lease_s::float8 * interval '1 second', digest = :digest
 where lease_id = :lease_id and lease_until > dpp.now()
returning lease_id
