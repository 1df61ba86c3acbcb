-- What windows of ledgers add up to; facts behind :untils, as far as :lasts, apart from those before. An empty one does
-- not come back.
with piece as materialized (
  select *
    from unnest(:tenant_ids::text[], :afters::bigint[], :untils::bigint[], :lasts::bigint[])
      as p (tenant_id, after_seq, until_seq, last_seq)
)
select p.tenant_id, f.seq > p.until_seq as beyond,
       sum(case f.kind when 'deposit' then f.amount when 'withdraw' then -f.amount when 'adjust' then f.amount
                       else 0 end)::bigint as deposited,
       sum(case when f.kind = 'reserve' then f.amount when f.kind in ('settle', 'void') then -f.amount else 0 end)::bigint as held,
       sum(coalesce(f.cost, 0) - case when f.kind = 'refund' then f.amount else 0 end)::bigint as spent,
       sum(case when f.kind = 'reserve' then 1 when f.kind in ('settle', 'void') then -1 else 0 end) as unresolved,
       count(*) as entries, count(distinct f.seq) as seqs, max(f.seq) as top
  from piece p
 cross join lateral (select * from ledger l
                      where l.tenant_id = p.tenant_id and l.seq > p.after_seq and l.seq <= p.last_seq offset 0) as f
 group by 1, 2
 order by 1, 2
