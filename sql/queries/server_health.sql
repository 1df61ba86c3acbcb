-- How the server is: dead rows of our tables as it estimates them, how many transactions back the oldest is that something
-- still needs (a session, a prepared transaction, a replication slot), how far the oldest row is from the wraparound of
-- transaction ids, and whether a COMMIT waits for a standby.
select (select json_object_agg(relname, n_dead_tup) from pg_stat_user_tables where schemaname = 'dpp')::text as dead_rows,
       greatest((select max(age(backend_xmin)) from pg_stat_activity),
                (select max(age(transaction)) from pg_prepared_xacts),
                (select max(greatest(age(xmin), age(catalog_xmin))) from pg_replication_slots),
                0)::bigint as oldest_xmin_age,
       pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next_xid,
       (select age(datfrozenxid) from pg_database where datname = current_database())::bigint as frozen_xid_age,
       current_setting('synchronous_standby_names') <> ''
         and current_setting('synchronous_commit') in ('on', 'remote_write', 'remote_apply') as waits_for_standby
