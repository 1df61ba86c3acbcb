-- Waits for claims in flight, which hold the row for key share. Its runs are taken in a statement after this one.
delete from node_leases where lease_id = :lease_id returning lease_id
