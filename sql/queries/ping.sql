-- The database's time, and whether it takes writes: `read_only` is true on a standby too.
select dpp.now() as now, current_setting('transaction_read_only') = 'on' as read_only
