-- One row a tenure. Asked again after a lost answer it waits for the other insert and changes nothing.
insert into node_leases (lease_id, node_id, lease_until, digest)
values (:lease_id, :node_id, dpp.now() + :lease_s::float8 * interval '1 second', :digest)
on conflict (lease_id) do nothing
