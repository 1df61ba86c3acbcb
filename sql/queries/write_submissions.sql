-- Last of a submit: everything of the created runs. The sums come from the rows really inserted, and the three counts
-- must be equal to the number of items, else the caller rolls back.
with item as materialized (
  select *
    from unnest(:run_ids::uuid[], :tenant_ids::text[], :seqs::bigint[], :max_costs::bigint[], :minimum_fees::bigint[],
                :timeboxes_s::int[], :priorities::smallint[], :pack_types::text[], :pack_versions::text[],
                :policies::text[], :key_ids::text[], :trace_ids::text[], :idempotency_keys::text[],
                :fingerprints::bytea[], :inputs::bytea[])
      as i (run_id, tenant_id, seq, max_cost, minimum_fee, timebox_s, priority, pack_type, pack_version,
            policy, key_id, trace_id, idempotency_key, fingerprint, inputs)
),
submission as (
  insert into submissions (tenant_id, seq, run_id, max_cost, minimum_fee, created_at, expires_at, timebox_s, priority,
                           pack_type, pack_version, policy, key_id, trace_id, idempotency_key, fingerprint, inputs,
                           inputs_sha256)
  select tenant_id, seq, run_id, max_cost, minimum_fee, :now, :now::timestamptz + :queue_ttl_s::int * interval '1 second',
         timebox_s, priority, pack_type, pack_version, policy, key_id, trace_id, idempotency_key, fingerprint, inputs,
         sha256(inputs)
    from item
  returning tenant_id, seq, max_cost
),
live as (
  insert into live_runs (run_id, tenant_id, available_at, expires_at, max_cost, minimum_fee, timebox_s, priority, pack_type)
  select run_id, tenant_id, :now, :now::timestamptz + :queue_ttl_s::int * interval '1 second', max_cost, minimum_fee,
         timebox_s, priority, pack_type
    from item
  returning 1
),
total as (
  select tenant_id, sum(max_cost)::bigint as amount, max(seq) as seq, count(*)::int as n
    from submission group by tenant_id
),
budget as (
  update budgets b
     set available = b.available - total.amount,
         held = b.held + total.amount,
         seq = total.seq,
         window_from = case when b.window_from + :window_s::int * interval '1 second' > :now then b.window_from else :now end,
         window_count = case when b.window_from + :window_s::int * interval '1 second' > :now then b.window_count else 0 end
                        + total.n
    from total
   where b.tenant_id = total.tenant_id
  returning total.n
)
select (select count(*) from submission) as submissions,
       (select count(*) from live) as live,
       (select coalesce(sum(n), 0) from budget) as budgeted
