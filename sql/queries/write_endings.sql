-- Last of every ending, whoever ends: the live row goes, the ending comes, budget and usage follow. The fence stands in
-- the WHERE of the row that is deleted (lease null = a run that was QUEUED); only what was deleted is inserted, and the
-- primary key of endings stands behind it. The caller asserts that the counts equal the number of items.
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
   using item i
   where r.run_id = i.run_id
     and r.lease_epoch = i.lease_epoch
     and r.lease_id is not distinct from i.lease_id
     and r.quarantined_at is null
  returning r.run_id, r.tenant_id, r.max_cost, r.lease_epoch, r.started_at, r.attempts_spent, r.cancel_asked,
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
  returning tenant_id, seq, cost, returned, status
),
total as (
  select tenant_id, sum(cost + returned)::bigint as amount, sum(cost)::bigint as cost, sum(returned)::bigint as returned,
         max(seq) as seq, count(*) as n,
         count(*) filter (where status = 'COMPLETED') as completed,
         count(*) filter (where status = 'FAILED') as failed
    from ending
   group by tenant_id
),
budget as (
  update budgets b
     set held = b.held - t.amount,
         available = b.available + t.returned,
         spent = b.spent + t.cost,
         seq = t.seq
    from total t
   where b.tenant_id = t.tenant_id
  returning t.n
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
