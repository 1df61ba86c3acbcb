-- Whether autovacuum runs at all, and how many transactions old the oldest row of this database is.
select current_setting('autovacuum') = 'on' as autovacuum,
       (select age(datfrozenxid) from pg_database where datname = current_database())::bigint as age
