-- every budget row equals its tenant's closing entry and the fold of the ledger behind it, which is numbered without a gap
with fold as (
  select l.tenant_id,
         coalesce(sum(l.amount) filter (where l.kind = 'deposit'), 0) - coalesce(sum(l.amount) filter (where l.kind = 'withdraw'), 0)
           + coalesce(sum(l.amount) filter (where l.kind = 'adjust'), 0) as deposited,
         coalesce(sum(l.amount) filter (where l.kind = 'reserve'), 0)
           - coalesce(sum(l.amount) filter (where l.kind in ('settle', 'void')), 0) as held,
         coalesce(sum(l.cost), 0) - coalesce(sum(l.amount) filter (where l.kind = 'refund'), 0) as spent,
         count(*) as entries, count(distinct l.seq) as seqs, max(l.seq) as seq
    from ledger l
    left join closings c on c.tenant_id = l.tenant_id
   where l.seq > coalesce(c.seq, 0)
   group by l.tenant_id
),
books as (
  select coalesce(f.tenant_id, c.tenant_id) as tenant_id,
         coalesce(f.deposited, 0) + coalesce(c.deposited, 0) as deposited, coalesce(f.held, 0) + coalesce(c.held, 0) as held,
         coalesce(f.spent, 0) + coalesce(c.spent, 0) as spent, coalesce(f.entries, 0) + coalesce(c.seq, 0) as entries,
         coalesce(f.seqs, 0) + coalesce(c.seq, 0) as seqs, greatest(f.seq, c.seq) as seq
    from fold f
    full join closings c on c.tenant_id = f.tenant_id
)
select coalesce(b.tenant_id, f.tenant_id) as tenant_id,
       b.deposited, b.available, b.held, b.spent, b.seq,
       f.deposited as deposited_folded, f.held as held_folded, f.spent as spent_folded,
       f.entries, f.seqs, f.seq as seq_folded
  from budgets b
  full join books f on f.tenant_id = b.tenant_id
 where b.tenant_id is null
    or b.deposited is distinct from coalesce(f.deposited, 0)
    or b.held is distinct from coalesce(f.held, 0)
    or b.spent is distinct from coalesce(f.spent, 0)
    or b.available is distinct from coalesce(f.deposited - f.held - f.spent, 0)
    or b.seq is distinct from coalesce(f.seq, 0)
    or f.entries <> f.seqs or f.entries <> f.seq
 order by 1
