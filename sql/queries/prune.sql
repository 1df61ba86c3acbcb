-- Take old runs and transfers out of one tenant's books, a bounded batch; its budget is locked. See dpp.prune.
select runs, moves from dpp.prune(:tenant_id, :run_days::int, :transfer_days::int, :most::int)
