-- What a run cost (null = it has not ended) and how much of that was refunded; asked in a statement after the budget lock,
-- which whoever ends or refunds a run of the tenant holds. No row: the tenant has no such run.
select e.cost,
       (select coalesce(sum(t.amount), 0)::bigint
          from transfers t
         where t.run_id = s.run_id and t.kind = 'refund' and t.tenant_id = s.tenant_id) as refunded
  from submissions s
  left join endings e on e.run_id = s.run_id and e.tenant_id = s.tenant_id
 where s.tenant_id = :tenant_id and s.run_id = :run_id
