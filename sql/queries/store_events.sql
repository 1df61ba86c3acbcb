-- Progress and charges of attempts that hold their runs, by their fences, or whose runs have ended under their epochs: the
-- last that an attempt told may come after its ending. Asking again changes nothing.
insert into run_events (run_id, lease_epoch, n, tenant_id, kind, fraction, note, amount, created_at)
select e.run_id, e.lease_epoch, e.n, r.tenant_id, e.kind, e.fraction, e.note, e.amount, dpp.now()
  from unnest(:run_ids::uuid[], :lease_ids::uuid[], :lease_epochs::bigint[], :ns::int[], :kinds::text[],
              :fractions::float8[], :notes::text[], :amounts::bigint[])
         as e (run_id, lease_id, lease_epoch, n, kind, fraction, note, amount)
 cross join lateral (
       select l.tenant_id from live_runs l
        where l.run_id = e.run_id and l.lease_id = e.lease_id and l.lease_epoch = e.lease_epoch
        union all
       select d.tenant_id from endings d where d.run_id = e.run_id and d.lease_epoch = e.lease_epoch) as r
 order by e.run_id, e.lease_epoch, e.n
on conflict do nothing
