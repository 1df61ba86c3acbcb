-- Last of a submit: everything of the created runs. The sums come from the rows really inserted, and the three counts
-- must be equal to the number of items, else the caller rolls back.
with item as materialized (
  select *
    from unnest(:run_ids::uuid[], :tenant_ids::text[], :seqs::bigint[], :max_costs::bigint[], :minimum_fees::bigint[],
                :timeboxes_s::int[], :priorities::smallint[], :pack_types::text[], :pack_versions::text[],
                :policies::text[], :key_ids::text[], :trace_ids::text[], :idempotency_keys::text[],
                :fingerprints::bytea[], :inputs::bytea[], :available_ats::timestamptz[], :expires_ats::timestamptz[],
                :result_days::smallint[], :budget_days::date[], :allowance_ids::text[], :metadatas::text[],
                :webhook_urls::text[])
      as i (run_id, tenant_id, seq, max_cost, minimum_fee, timebox_s, priority, pack_type, pack_version,
            policy, key_id, trace_id, idempotency_key, fingerprint, inputs, available_at, expires_at, result_days,
            budget_day, allowance_id, metadata, webhook_url)
),
submission as (
  insert into submissions (tenant_id, seq, run_id, max_cost, minimum_fee, created_at, expires_at, timebox_s, priority,
                           pack_type, pack_version, policy, key_id, trace_id, idempotency_key, fingerprint, inputs,
                           inputs_sha256, budget_day, allowance_id, result_days, metadata, webhook_url)
  select tenant_id, seq, run_id, max_cost, minimum_fee, :now, expires_at,
         timebox_s, priority, pack_type, pack_version, policy, key_id, trace_id, idempotency_key, fingerprint, inputs,
         sha256(inputs), budget_day, allowance_id, result_days, metadata, webhook_url
    from item
  returning tenant_id, seq, max_cost, budget_day, allowance_id
),
live as (
  insert into live_runs (run_id, tenant_id, available_at, expires_at, max_cost, minimum_fee, timebox_s, priority, pack_type,
                         budget_day, allowance_id)
  select run_id, tenant_id, available_at, expires_at, max_cost, minimum_fee, timebox_s, priority, pack_type, budget_day,
         allowance_id
    from item
  returning 1
),
total as (
  select tenant_id, sum(max_cost)::bigint as amount, max(seq) as seq, count(*)::int as n, max(budget_day) as day
    from submission group by tenant_id
),
allowed as (
  update allowances w
     set used = w.used + s.amount
    from (select allowance_id, sum(max_cost)::bigint as amount
            from submission where allowance_id is not null group by allowance_id) as s
   where w.allowance_id = s.allowance_id
),
budget as (
  update budgets b
     set available = b.available - total.amount,
         held = b.held + total.amount,
         seq = total.seq,
         window_from = case when b.window_from + :window_s::int * interval '1 second' > :now then b.window_from else :now end,
         window_count = case when b.window_from + :window_s::int * interval '1 second' > :now then b.window_count else 0 end
                        + total.n,
         spend_day = total.day,
         day_spend = case when b.spend_day = total.day then b.day_spend else 0 end + total.amount,
         month_spend = case when date_trunc('month', b.spend_day) = date_trunc('month', total.day) then b.month_spend else 0 end
                       + total.amount
    from total
   where b.tenant_id = total.tenant_id
  returning total.n
)
select (select count(*) from submission) as submissions,
       (select count(*) from live) as live,
       (select coalesce(sum(n), 0) from budget) as budgeted
