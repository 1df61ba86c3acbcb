-- Whose run this is. No row: there is no such run. Submissions are found by tenant alone, so what became of it is asked.
select tenant_id from live_runs where run_id = :run_id
union
select tenant_id from endings where run_id = :run_id
