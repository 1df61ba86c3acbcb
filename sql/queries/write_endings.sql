-- Last of every ending, whoever ends: the live row goes, the ending comes, budget, usage and webhook deliveries follow. The fence stands in
-- the WHERE of the row that is deleted (lease null = a run that was QUEUED), with the reserve that it resolves: a live row
-- that nobody submitted, or of another amount, moves no money. Only what was deleted is inserted, and the primary key of
-- endings stands behind it. The caller asserts that the counts equal the number of items.
with item as materialized (
  select *
    from unnest(:run_ids::uuid[], :lease_ids::uuid[], :lease_epochs::bigint[], :seqs::bigint[], :statuses::text[],
                :kinds::text[], :costs::bigint[], :ending_ids::uuid[], :error_codes::text[], :error_details::text[],
                :results::bytea[], :result_keys::text[], :result_sha256s::bytea[])
      as i (run_id, lease_id, lease_epoch, seq, status, kind, cost, ending_id, error_code, error_detail, result, result_key,
            result_sha256)
),
gone as (
  delete from live_runs r
   using item i, submissions s
   where r.run_id = i.run_id
     and s.tenant_id = r.tenant_id
     and s.run_id = r.run_id
     and s.max_cost = r.max_cost
     and r.lease_epoch = i.lease_epoch
     and r.lease_id is not distinct from i.lease_id
     and r.quarantined_at is null
  returning r.run_id, r.tenant_id, r.max_cost, r.lease_epoch, r.started_at, r.attempts_spent, r.cancel_asked,
            r.budget_day, r.allowance_id,
            i.seq, i.status, i.kind, i.cost, i.ending_id, i.error_code, i.error_detail, i.result, i.result_key,
            i.result_sha256
),
ending as (
  insert into endings (run_id, tenant_id, seq, status, kind, cost, returned, lease_epoch, attempts_spent, cancel_asked,
                       ending_id, started_at, finished_at, error_code, error_detail, result_sha256, result, result_key)
  select run_id, tenant_id, seq, status, kind, cost, max_cost - cost, lease_epoch, attempts_spent, cancel_asked,
         ending_id, started_at, dpp.now(), error_code, error_detail, coalesce(result_sha256, sha256(result)), result,
         result_key
    from gone
  returning run_id, tenant_id, seq, cost, returned, status
),
-- What is returned counts back on the day of the reserve, as far as that day or its month is still counted. The budget
-- rows are locked, and this statement's snapshot is younger than the locks.
total as (
  select e.tenant_id, sum(e.cost + e.returned)::bigint as amount, sum(e.cost)::bigint as cost,
         sum(e.returned)::bigint as returned, max(e.seq) as seq, count(*) as n,
         count(*) filter (where e.status = 'COMPLETED') as completed,
         count(*) filter (where e.status = 'FAILED') as failed,
         coalesce(sum(e.returned) filter (where g.budget_day = b.spend_day), 0)::bigint as day_returned,
         coalesce(sum(e.returned) filter (where date_trunc('month', g.budget_day) = date_trunc('month', b.spend_day)), 0)::bigint
           as month_returned
    from ending e
    join gone g on g.run_id = e.run_id
    left join budgets b on b.tenant_id = e.tenant_id
   group by e.tenant_id
),
budget as (
  update budgets b
     set held = b.held - t.amount,
         available = b.available + t.returned,
         spent = b.spent + t.cost,
         seq = t.seq,
         day_spend = b.day_spend - t.day_returned,
         month_spend = b.month_spend - t.month_returned
    from total t
   where b.tenant_id = t.tenant_id
  returning b.tenant_id, b.deposited, b.available, b.held, b.spent, t.cost, t.seq, t.n
),
allowed as (
  update allowances w
     set used = w.used - s.returned
    from (select g.allowance_id, sum(e.returned)::bigint as returned
            from ending e join gone g on g.run_id = e.run_id
           where g.allowance_id is not null group by g.allowance_id) as s
   where w.allowance_id = s.allowance_id
),
-- What was spent of all that was deposited passed a threshold by these endings: said once, with the last of them.
low as (
  select b.tenant_id, e.run_id,
         (select max(p) from unnest(array[50, 80, 95]) as p
           where b.spent::numeric * 100 >= b.deposited::numeric * p
             and (b.spent - b.cost)::numeric * 100 < b.deposited::numeric * p) as percent,
         b.deposited, b.available, b.held, b.spent
    from budget b
    join ending e on e.tenant_id = b.tenant_id and e.seq = b.seq
   where b.cost > 0
),
event as (
  select tenant_id, run_id, 'run.' || lower(status) as event, null as detail from ending
  union all
  select tenant_id, run_id, 'budget.low',
         json_build_object('threshold_percent', percent, 'deposited_micros', deposited, 'available_micros', available,
                           'held_micros', held, 'spent_micros', spent)::text
    from low
   where percent is not null
),
delivery as (
  insert into webhook_deliveries (tenant_id, webhook_id, run_id, event, detail, created_at, next_at)
  select event.tenant_id, w.webhook_id, event.run_id, event.event, event.detail, dpp.now(), dpp.now()
    from event
    join webhooks w on w.tenant_id = event.tenant_id and event.event = any(w.events)
   where w.disabled_at is null and w.deleted_at is null
),
used as (
  insert into usage_days as u (tenant_id, day, runs, completed, failed, cost, reserved)
  select tenant_id, (dpp.now() at time zone 'utc')::date, n, completed, failed, cost, amount
    from total
   order by tenant_id
  on conflict (tenant_id, day) do update
     set runs = u.runs + excluded.runs,
         completed = u.completed + excluded.completed,
         failed = u.failed + excluded.failed,
         cost = u.cost + excluded.cost,
         reserved = u.reserved + excluded.reserved
  returning 1
)
select (select count(*) from gone) as ended,
       (select count(*) from ending) as endings,
       (select coalesce(sum(n), 0) from budget) as budgeted
