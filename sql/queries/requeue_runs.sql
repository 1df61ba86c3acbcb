-- A take-back names what it saw; :spent is 1 where the attempt is spent. A run whose cancel was asked is never requeued,
-- and nothing is while it is quarantined. A run that does not come back was not written.
update live_runs r
   set lease_id = null,
       deadline = null,
       storing = false,
       available_at = dpp.now(),
       attempts_spent = r.attempts_spent + s.spent
  from unnest(:run_ids::uuid[], :lease_ids::uuid[], :lease_epochs::bigint[], :spents::int[])
         as s (run_id, lease_id, lease_epoch, spent)
 where r.run_id = s.run_id
   and r.lease_id = s.lease_id
   and r.lease_epoch = s.lease_epoch
   and not r.cancel_asked
   and r.quarantined_at is null
returning r.run_id
