-- Transactions that clients have open on this database, the oldest first, the one that asks apart. Of other roles' sessions a role
-- sees nothing without pg_read_all_stats; `hidden` counts them, in each row and in one of its own where nothing is open.
with client as (
  select pid, usename, application_name, state, xact_start, state_change
    from pg_stat_activity
   where datname = current_database() and pid <> pg_backend_pid() and (backend_type = 'client backend' or backend_type is null)
),
hidden as (select count(*)::int as hidden from client where state is null and not pg_has_role(usename, 'member')
             and not pg_has_role('pg_read_all_stats', 'member'))
select hidden.hidden, c.pid, c.usename::text as usename, c.application_name, c.state,
       extract(epoch from clock_timestamp() - c.xact_start)::float8 as open_s,
       extract(epoch from clock_timestamp() - c.state_change)::float8 as idle_s
  from hidden left join client c on c.xact_start is not null
 order by c.xact_start
 limit :limit::int
