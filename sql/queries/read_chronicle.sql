-- A run's state and, a row each, what its attempts told behind a place, in order and at most :page: one snapshot. A run of
-- which nothing was told is one row without an event; no row: the tenant has no such run. `charged`: by the attempt at the
-- place, up to it; it names the parameter and not the row, so that it is summed once and not for each.
select r.run_id, r.tenant_id, r.status, r.lease_epoch as epoch_now, r.attempts_spent, r.actual_cost, r.error_code,
       r.error_detail, r.finished_at, dpp.now() as now,
       (select coalesce(sum(b.amount), 0)::bigint from run_events b
         where b.run_id = :run_id and b.lease_epoch = :epoch and b.n <= :n) as charged,
       e.lease_epoch, e.n, e.kind, e.fraction, e.note, e.amount
  from runs r
  left join lateral (
       select o.lease_epoch, o.n, o.kind, o.fraction, o.note, o.amount
         from run_events o
        where o.run_id = r.run_id and (o.lease_epoch, o.n) > (:epoch, :n)
        order by o.lease_epoch, o.n
        limit :page) as e on true
 where r.tenant_id = :tenant_id and r.run_id = :run_id
 order by e.lease_epoch, e.n
