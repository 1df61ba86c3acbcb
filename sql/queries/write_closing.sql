-- A closing entry moved on: what the facts up to its new place come to, and what the days and allowances gain by those
-- that are new to it. The entry is locked.
with days as (
  insert into closed_days (tenant_id, day, runs, completed, failed, cost, reserved)
  select :tenant_id, d.day, d.runs, d.completed, d.failed, d.cost, d.reserved
    from unnest(:days::date[], :runs::bigint[], :completed::bigint[], :failed::bigint[], :costs::bigint[], :reserved::bigint[])
      as d (day, runs, completed, failed, cost, reserved)
      on conflict (tenant_id, day) do update
     set runs = closed_days.runs + excluded.runs, completed = closed_days.completed + excluded.completed,
         failed = closed_days.failed + excluded.failed, cost = closed_days.cost + excluded.cost,
         reserved = closed_days.reserved + excluded.reserved
),
used as (
  insert into closed_allowances (tenant_id, allowance_id, used)
  select :tenant_id, a.allowance_id, a.used
    from unnest(:allowance_ids::text[], :useds::bigint[]) as a (allowance_id, used)
      on conflict (tenant_id, allowance_id) do update set used = closed_allowances.used + excluded.used
)
update closings
   set seq = :seq, deposited = :deposited, held = :held, spent = :spent, unresolved = :unresolved,
       spend_seq = :spend_seq, spend_day = :spend_day, day_spend = :day_spend, month_spend = :month_spend,
       closed_at = dpp.now()
 where tenant_id = :tenant_id and seq = :was
returning seq
