-- Whether this tenant had a run of this id that is past retention: its key outlives it.
select exists (select from spent_keys where tenant_id = :tenant_id and run_id = :run_id) as pruned
