-- Take inputs and results away that are served no more, a bounded batch of one tenant. See dpp.prune_bodies.
select dpp.prune_bodies(:tenant_id, :most::int) as bodies
