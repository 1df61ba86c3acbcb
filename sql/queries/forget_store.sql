-- Forget a store in which nothing lies: no ending points there, no run is on its way there, and no node lives or was heard
-- of within :heard_s, which one that rests without a lease is. What keeps it, as seen by the same statement. Asked as the owner.
with uses as materialized (
  select (select count(*) from dpp.endings where result_key is not null) as results,
         (select count(*) from dpp.live_runs where storing) as storing,
         array(select node_id from dpp.node_leases where lease_until > dpp.now()
               union
               select node_id from dpp.nodes where reported_at > dpp.now() - :heard_s::float8 * interval '1 second'
               order by node_id) as nodes
),
gone as (
  delete from dpp.stores using uses
   where name = :name and results = 0 and storing = 0 and cardinality(nodes) = 0
  returning store_id
)
select uses.*, (select store_id from gone) as store_id from uses
