-- The live row of a run that lost it, as of its submission, so that it can be ended like any other; under the highest epoch
-- that any of its attempts told of. A row that is there, and wrong, is written over. The caller has seen that the run has not
-- ended, and holds its budget.
insert into live_runs (run_id, tenant_id, available_at, expires_at, started_at, lease_epoch, max_cost, minimum_fee,
                       timebox_s, priority, pack_type, budget_day, allowance_id)
select s.run_id, s.tenant_id, dpp.now(), s.expires_at, case when told.epoch > 0 then s.created_at end, told.epoch,
       s.max_cost, s.minimum_fee, s.timebox_s, s.priority, s.pack_type, s.budget_day,
       s.allowance_id
  from submissions s
 cross join (select coalesce(max(lease_epoch), 0) as epoch from run_events where run_id = :run_id) as told
 where s.tenant_id = :tenant_id and s.run_id = :run_id
    on conflict (run_id) do update
   set max_cost = excluded.max_cost, minimum_fee = excluded.minimum_fee, budget_day = excluded.budget_day,
       allowance_id = excluded.allowance_id
returning run_id
