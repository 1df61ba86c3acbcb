-- What a run may cost by its submission; no row: the tenant submitted no such run.
select max_cost from submissions where tenant_id = :tenant_id and run_id = :run_id
