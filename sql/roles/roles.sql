-- The roles and their limits: what is missing of them, a statement a row, in order; no row where all is as it should be.
-- dpp_owner makes and changes the schema, dpp_app is the node, dpp_audit reads.
-- The limits bound what a frozen or hanging client costs all others (waits for its locks, dead rows kept).
with limits (role, name, value) as (values
  ('dpp_owner', 'lock_timeout',                        '5s'),   -- a migration that waits makes all wait behind it
  ('dpp_app',   'search_path',                         'dpp'),
  ('dpp_app',   'statement_timeout',                   '10s'),
  ('dpp_app',   'lock_timeout',                        '2s'),
  ('dpp_app',   'idle_in_transaction_session_timeout', '5s'),
  ('dpp_app',   'transaction_timeout',                 '15s'),  -- also ends a COMMIT, which statement_timeout does not
  ('dpp_app',   'client_connection_check_interval',    '1s'),   -- a statement whose client is gone ends, its locks too
  ('dpp_app',   'tcp_user_timeout',                    '10s'),  -- nor is one waited for that takes no rows
  ('dpp_audit', 'client_connection_check_interval',    '1s'),
  ('dpp_audit', 'search_path',                         'dpp'),
  ('dpp_audit', 'default_transaction_read_only',       'on'),
  ('dpp_audit', 'statement_timeout',                   '60s'),  -- an audit reads whole tables
  ('dpp_audit', 'lock_timeout',                        '2s'),
  ('dpp_audit', 'idle_in_transaction_session_timeout', '5s'),
  ('dpp_audit', 'transaction_timeout',                 '180s')
)
select statement
  from (
    select 1 as step, role, '' as name, format('create role %I login', role) as statement
      from (select distinct role from limits) as wanted
     where not exists (select from pg_roles where rolname = role)
    union all
    select 2, role, name, format('alter role %I set %s = %L', role, name, value)
      from limits
     where current_setting(name, true) is not null  -- PostgreSQL before 17 has no transaction_timeout
       and not exists (select from pg_db_role_setting
                         join pg_roles on pg_roles.oid = setrole
                        where rolname = role and setdatabase = 0 and setconfig @> array[limits.name || '=' || value])
  ) as missing
 order by step, role, name
