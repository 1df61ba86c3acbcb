-- Takes the mark off a run that was set aside: its row is locked, and an operator ends it in this transaction.
update live_runs set quarantined_at = null where run_id = :run_id and quarantined_at is not null
returning run_id
