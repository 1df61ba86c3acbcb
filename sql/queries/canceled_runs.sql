-- Of the runs executed here: those whose cancel was asked.
select run_id from live_runs where run_id = any(:run_ids::uuid[]) and cancel_asked order by run_id
