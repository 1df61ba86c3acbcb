-- What keeps a store from being forgotten: results that lie there, runs on their way there, nodes that live. Asked as the
-- owner.
select (select count(*) from dpp.endings where result_key is not null) as results,
       (select count(*) from dpp.live_runs where storing) as storing,
       array(select distinct node_id from dpp.node_leases where lease_until > dpp.now() order by node_id) as nodes
