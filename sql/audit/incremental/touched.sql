-- Stands before the invariants of runs: tables of the same names, cut down to the runs that some windows of ledgers touch,
-- and to the runs that are named. So what is asked in a window is, word for word, what the whole audit asks.
-- Every lateral is bounded, or fenced by `offset 0`: the planner must go by the index, once a row.
with piece as materialized (
  select *
    from unnest(:tenant_ids::text[], :afters::bigint[], :untils::bigint[]) as p (tenant_id, after_seq, until_seq)
),
touched as materialized (
  select p.tenant_id, f.run_id
    from piece p
   cross join lateral (select run_id from dpp.submissions
                        where tenant_id = p.tenant_id and seq > p.after_seq and seq <= p.until_seq offset 0) as f
   union
  select p.tenant_id, f.run_id
    from piece p
   cross join lateral (select run_id from dpp.endings
                        where tenant_id = p.tenant_id and seq > p.after_seq and seq <= p.until_seq offset 0) as f
   union
  select p.tenant_id, f.run_id
    from piece p
   cross join lateral (select run_id from dpp.transfers
                        where tenant_id = p.tenant_id and seq > p.after_seq and seq <= p.until_seq
                          and kind = 'refund' offset 0) as f
   union
  select * from unnest(:run_tenants::text[], :run_ids::uuid[]) as named (tenant_id, run_id)
),
run as materialized (select distinct run_id from touched),
live_runs as materialized (
  select f.* from run cross join lateral (select * from dpp.live_runs l where l.run_id = run.run_id offset 0) as f
),
endings as materialized (
  select f.* from run cross join lateral (select * from dpp.endings e where e.run_id = run.run_id offset 0) as f
),
whose as materialized (               -- a row of another tenant's is judged beside that tenant's submission
  select * from touched union select tenant_id, run_id from live_runs union select tenant_id, run_id from endings
),
submissions as materialized (
  select f.*
    from whose w
   cross join lateral (select * from dpp.submissions s
                        where s.tenant_id = w.tenant_id and s.run_id = w.run_id offset 0) as f
),
transfers as materialized (
  select f.*
    from run
   cross join lateral (select * from dpp.transfers r where r.run_id = run.run_id and r.kind = 'refund' offset 0) as f
)
