-- What this node is told: the mode of all, and whether it shall drain itself.
select (select mode from mode_in_force) as mode,
       exists (select from nodes where node_id = :node_id and drain_asked_at is not null) as drain
