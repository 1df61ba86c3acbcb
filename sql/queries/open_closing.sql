-- The closing entry of a tenant that has none, over nothing yet.
insert into closings (tenant_id, closed_at) values (:tenant_id, dpp.now())
on conflict (tenant_id) do nothing
