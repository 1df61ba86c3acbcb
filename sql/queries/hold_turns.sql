-- First statement of a claim: key share on the own living lease row, which lets it be renewed and makes ending it wait;
-- then the turns of the tenants whose plan has a cap, leaving out those that another node is counting, and those whose
-- plan this node does not know: without it nobody can say what their cap is. Nobody's where nothing is to be claimed:
-- by all nodes, or by this one.
-- No row: the lease has lapsed. A row with tenant_id null: it lives, and there is nobody to claim from.
with lease as materialized (
  select lease_id from node_leases where lease_id = :lease_id and lease_until > dpp.now() for key share
),
wanted as materialized (
  select w.tenant_id, w.n, c.cap, c.weight
    from unnest(:tenant_ids::text[]) with ordinality as w (tenant_id, n)
    join tenants t on t.tenant_id = w.tenant_id
    join unnest(:plans::text[], :caps::int[], :weights::int[]) as c (plan, cap, weight) on c.plan = t.plan
   where exists (select from lease)
     and not exists (select from mode_in_force where mode = 'drain')
     and not exists (select from nodes n join node_leases l on l.node_id = n.node_id
                      where l.lease_id = :lease_id and n.drain_asked_at is not null)
),
turn as materialized (
  select tt.tenant_id
    from tenant_turns tt
   where tt.tenant_id = any(array(select tenant_id from wanted where cap is not null))
   order by tt.tenant_id
     for no key update skip locked
)
select lease.lease_id, able.tenant_id, able.cap, able.weight
  from lease
  left join (select w.tenant_id, w.n, w.cap, w.weight from wanted w
              where w.cap is null or exists (select from turn where turn.tenant_id = w.tenant_id)) as able on true
 order by able.n
