-- every budget row equals the fold of its tenant's ledger, which is numbered without a gap
with fold as (
  select tenant_id,
         coalesce(sum(amount) filter (where kind = 'deposit'), 0) - coalesce(sum(amount) filter (where kind = 'withdraw'), 0)
           + coalesce(sum(amount) filter (where kind = 'adjust'), 0) as deposited,
         coalesce(sum(amount) filter (where kind = 'reserve'), 0)
           - coalesce(sum(amount) filter (where kind in ('settle', 'void')), 0) as held,
         coalesce(sum(cost), 0) - coalesce(sum(amount) filter (where kind = 'refund'), 0) as spent,
         count(*) as entries, count(distinct seq) as seqs, max(seq) as seq
    from ledger
   group by tenant_id
)
select coalesce(b.tenant_id, f.tenant_id) as tenant_id,
       b.deposited, b.available, b.held, b.spent, b.seq,
       f.deposited as deposited_folded, f.held as held_folded, f.spent as spent_folded,
       f.entries, f.seqs, f.seq as seq_folded
  from budgets b
  full join fold f on f.tenant_id = b.tenant_id
 where b.tenant_id is null
    or b.deposited is distinct from coalesce(f.deposited, 0)
    or b.held is distinct from coalesce(f.held, 0)
    or b.spent is distinct from coalesce(f.spent, 0)
    or b.available is distinct from coalesce(f.deposited - f.held - f.spent, 0)
    or b.seq is distinct from coalesce(f.seq, 0)
    or f.entries <> f.seqs or f.entries <> f.seq
 order by 1
