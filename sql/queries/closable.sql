-- How far a tenant's books may be closed: the last of the next :facts facts behind :after that is old enough, like all
-- before it. Null: not one is.
select coalesce(min(f.seq) filter (where f.created_at >= dpp.now() - :run_days::int * interval '1 day') - 1, max(f.seq)) as until
  from (select l.seq, l.created_at from ledger l
         where l.tenant_id = :tenant_id and l.seq > :after and l.seq <= :after + :facts::int) as f
