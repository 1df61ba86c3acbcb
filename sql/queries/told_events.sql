-- What attempts of these runs told behind a place of each, by run and in order, at most :page of one run. The caller knows
-- whose runs they are.
select w.run_id, e.lease_epoch, e.n, e.kind, e.fraction, e.note, e.amount
  from unnest(:run_ids::uuid[], :epochs::bigint[], :ns::int[]) as w (run_id, epoch, n)
 cross join lateral (
       select o.lease_epoch, o.n, o.kind, o.fraction, o.note, o.amount
         from run_events o
        where o.run_id = w.run_id and (o.lease_epoch, o.n) > (w.epoch, w.n)
        order by o.lease_epoch, o.n
        limit :page) as e
 order by w.run_id, e.lease_epoch, e.n
