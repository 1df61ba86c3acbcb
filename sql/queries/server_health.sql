-- How the server is: dead rows of our tables as it estimates them, how many transactions back the oldest is that something
-- still needs (a session of this database, a prepared transaction, a replication slot), by the clock of the same ages how many
-- there have been in all, how far the oldest row is from the wraparound of
-- transaction ids, and whether a COMMIT waits for a standby.
select (select json_object_agg(relname, n_dead_tup) from pg_stat_user_tables where schemaname = 'dpp')::text as dead_rows,
       greatest((select max(age(backend_xmin)) from pg_stat_activity
                  where (datname = current_database() or datname is null)  -- null: a standby that tells what it needs
                    and pid not in (select pid from pg_stat_progress_vacuum)),
                (select max(age(transaction)) from pg_prepared_xacts),
                (select max(greatest(age(xmin), age(catalog_xmin))) from pg_replication_slots),
                0)::bigint as oldest_xmin_age,
       age('3'::xid) as transactions,
       (select age(datfrozenxid) from pg_database where datname = current_database())::bigint as frozen_xid_age,
       current_setting('synchronous_standby_names') <> ''
         and current_setting('synchronous_commit') in ('on', 'remote_write', 'remote_apply') as waits_for_standby
