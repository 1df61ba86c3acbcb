-- What these tenants may still spend, in micro-dollars; who has no row is left out.
select tenant_id, available from budgets where tenant_id = any(:tenant_ids::text[])
