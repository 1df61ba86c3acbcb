-- Stands before any invariant: tables of the same names, cut down to one tenant; all of it, so it may take a while.
with submissions as (select * from dpp.submissions where tenant_id = :tenant_id),
live_runs as (select * from dpp.live_runs where tenant_id = :tenant_id),
endings as (select * from dpp.endings where tenant_id = :tenant_id),
transfers as (select * from dpp.transfers where tenant_id = :tenant_id),
budgets as (select * from dpp.budgets where tenant_id = :tenant_id),
usage_days as (select * from dpp.usage_days where tenant_id = :tenant_id),
ledger as (select * from dpp.ledger where tenant_id = :tenant_id)
