-- Progress and charges of attempts that still hold their runs; the fence decides, and asking again changes nothing.
insert into run_events (run_id, lease_epoch, n, tenant_id, kind, fraction, note, amount, created_at)
select e.run_id, e.lease_epoch, e.n, r.tenant_id, e.kind, e.fraction, e.note, e.amount, dpp.now()
  from unnest(:run_ids::uuid[], :lease_ids::uuid[], :lease_epochs::bigint[], :ns::int[], :kinds::text[],
              :fractions::float8[], :notes::text[], :amounts::bigint[])
         as e (run_id, lease_id, lease_epoch, n, kind, fraction, note, amount)
  join live_runs r on r.run_id = e.run_id and r.lease_id = e.lease_id and r.lease_epoch = e.lease_epoch
 order by e.run_id, e.n
on conflict do nothing
