-- Takes away the live row of a run that has ended, whose ever it says it is: the reserve was resolved by the ending. The
-- caller has locked the row.
delete from live_runs
 where run_id = :run_id
   and exists (select from endings where endings.run_id = live_runs.run_id)
returning run_id
