-- How an unknown claim is asked for: this waits for the old backend, which holds the row for key share.
select lease_id from node_leases where lease_id = :lease_id for update
