-- What a reference names already; asked in a statement after the budget lock.
select kind, amount, run_id from transfers where tenant_id = :tenant_id and reference = :reference
