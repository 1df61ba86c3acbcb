-- Tenants by name behind :after, and what retention finds to do for each: bodies that are served no more, facts to close
-- the books over, runs to prune. A probe or two by an index each. A tenant with an open finding is left alone: what offends
-- is evidence.
select t.tenant_id,
       coalesce(next.finished_at + next.result_days * interval '1 day' <= dpp.now(), false) as bodies,
       coalesce((select l.created_at from ledger l where l.tenant_id = t.tenant_id and l.seq = coalesce(c.seq, 0) + 1)
                < dpp.now() - :run_days::int * interval '1 day', false) as closable,
       coalesce(first.finished_at < dpp.now() - :run_days::int * interval '1 day', false)
         or :transfer_days::int > 0
            and exists (select from transfers m where m.tenant_id = t.tenant_id and m.seq <= c.seq
                           and m.created_at < dpp.now() - :transfer_days::int * interval '1 day') as prunable
  from tenants t
  left join closings c on c.tenant_id = t.tenant_id
  left join lateral (select e.finished_at, s.result_days
                       from endings e join submissions s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
                      where e.tenant_id = t.tenant_id and e.seq > coalesce(c.bodies_seq, 0)
                      order by e.seq limit 1) as next on true
  left join lateral (select e.finished_at from endings e
                      where e.tenant_id = t.tenant_id and e.seq <= c.seq
                      order by e.seq limit 1) as first on true
 where t.tenant_id > :after and t.frozen_at is null
 order by t.tenant_id
 limit :limit::int
