select tenant_id, deposited, available, held, spent from budgets where tenant_id = :tenant_id
