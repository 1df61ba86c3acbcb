-- Our tables: dead rows by the server's estimate, and whether autovacuum is on for each.
select c.relname::text as name, coalesce(s.n_dead_tup, 0)::bigint as dead,
       not coalesce(c.reloptions && array['autovacuum_enabled=false', 'autovacuum_enabled=off'], false) as vacuumed
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  left join pg_stat_user_tables s on s.relid = c.oid
 where n.nspname = 'dpp' and c.relkind = 'r'
 order by c.relname
