-- The endings of runs that have no live row: the same ending_id means that our own write committed before.
select run_id, ending_id, status, cost from endings where run_id = any(:run_ids::uuid[]) order by run_id
