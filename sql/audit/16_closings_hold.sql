-- every closing entry = what is left of the facts that it covers + what it counts as gone, and lies within its ledger
with kept as (
  select l.tenant_id, count(*) as entries,
         sum(case l.kind when 'deposit' then l.amount when 'withdraw' then -l.amount when 'adjust' then l.amount else 0 end) as deposited,
         sum(case when l.kind = 'reserve' then l.amount when l.kind in ('settle', 'void') then -l.amount else 0 end) as held,
         sum(coalesce(l.cost, 0) - case when l.kind = 'refund' then l.amount else 0 end) as spent
    from ledger l
    join closings c on c.tenant_id = l.tenant_id
   where l.seq <= c.seq
   group by l.tenant_id
)
select c.tenant_id, c.seq, c.deposited, c.held, c.spent, c.gone, c.gone_deposited, c.gone_held, c.gone_spent,
       k.entries as kept, k.deposited as kept_deposited, k.held as kept_held, k.spent as kept_spent, b.seq as budget_seq
  from closings c
  left join kept k on k.tenant_id = c.tenant_id
  left join budgets b on b.tenant_id = c.tenant_id
 where c.seq <> c.gone + coalesce(k.entries, 0)
    or c.deposited <> c.gone_deposited + coalesce(k.deposited, 0)
    or c.held <> c.gone_held + coalesce(k.held, 0)
    or c.spent <> c.gone_spent + coalesce(k.spent, 0)
    or c.seq > coalesce(b.seq, c.seq)
 order by c.tenant_id
