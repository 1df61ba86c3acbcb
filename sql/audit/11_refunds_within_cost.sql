-- every refund is of an ended run of its tenant, which may have left once the closing entry covers the refund; all of a
-- run's together are at most what it cost
with refunded as (
  select tenant_id, run_id, sum(amount) as refunded, max(seq) as seq
    from transfers
   where kind = 'refund'
   group by tenant_id, run_id
)
select r.tenant_id, r.run_id, r.refunded, e.cost
  from refunded r
  left join endings e on e.run_id = r.run_id and e.tenant_id = r.tenant_id
  left join closings c on c.tenant_id = r.tenant_id
 where e.cost is null and r.seq > coalesce(c.seq, 0) or r.refunded > e.cost
 order by r.run_id
