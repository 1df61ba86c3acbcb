update tenants set plan = :plan where tenant_id = :tenant_id returning tenant_id
