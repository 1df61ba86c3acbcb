-- First of a renewal: one statement that waited for the row would renew a lease that lapsed during the wait.
select lease_id from node_leases where lease_id = :lease_id for no key update
