-- The server's clock now, and whether it only reads.
select clock_timestamp() as at, pg_is_in_recovery() as standby
