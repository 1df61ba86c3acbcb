-- Every attempt stamped with this lease, known to its node or not, and the time.
select dpp.now() as now, r.run_id, r.lease_epoch
  from (select 1) as one
  left join live_runs r on r.lease_id = :lease_id and r.quarantined_at is null
 order by r.run_id
