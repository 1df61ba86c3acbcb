-- Stands before any invariant: tables of the same names, cut down to one tenant; all of it, so it may take a while. Not
-- materialized: each mention goes by its own index, and reads the columns that it needs.
with submissions as not materialized (select * from dpp.submissions where tenant_id = :tenant_id),
live_runs as not materialized (select * from dpp.live_runs where tenant_id = :tenant_id),
endings as not materialized (select * from dpp.endings where tenant_id = :tenant_id),
transfers as not materialized (select * from dpp.transfers where tenant_id = :tenant_id),
budgets as not materialized (select * from dpp.budgets where tenant_id = :tenant_id),
allowances as not materialized (select * from dpp.allowances where tenant_id = :tenant_id),
usage_days as not materialized (select * from dpp.usage_days where tenant_id = :tenant_id),
closings as not materialized (select * from dpp.closings where tenant_id = :tenant_id),
closed_days as not materialized (select * from dpp.closed_days where tenant_id = :tenant_id),
closed_allowances as not materialized (select * from dpp.closed_allowances where tenant_id = :tenant_id),
ledger as not materialized (select * from dpp.ledger where tenant_id = :tenant_id)
