-- Forget a store in which nothing lies: no ending points there, no run is on its way there, and no node lives that could
-- put something there. Asked as the owner.
delete from dpp.stores
 where name = :name
   and not exists (select from dpp.endings where result_key is not null)
   and not exists (select from dpp.live_runs where storing)
   and not exists (select from dpp.node_leases where lease_until > dpp.now())
returning store_id
