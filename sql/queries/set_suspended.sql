update tenants
   set suspended_at = case when :suspended::boolean then coalesce(suspended_at, dpp.now()) end
 where tenant_id = :tenant_id
returning tenant_id
