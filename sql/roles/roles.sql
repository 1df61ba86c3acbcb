-- The roles, with their limits. Asked again at each start: it changes nothing that is as it should be.
-- dpp_owner makes and changes the schema, dpp_app is the node, dpp_audit reads.
do $$
declare
  -- They bound what a frozen or hanging client costs all others (waits for its locks, dead rows kept).
  limits constant text[][] := array[
    ['dpp_owner', 'lock_timeout',                        '5s'],   -- a migration that waits makes all wait behind it
    ['dpp_app',   'search_path',                         'dpp'],
    ['dpp_app',   'statement_timeout',                   '10s'],
    ['dpp_app',   'lock_timeout',                        '2s'],
    ['dpp_app',   'idle_in_transaction_session_timeout', '5s'],
    ['dpp_app',   'transaction_timeout',                 '15s'],  -- also ends a COMMIT, which statement_timeout does not
    ['dpp_audit', 'search_path',                         'dpp'],
    ['dpp_audit', 'default_transaction_read_only',       'on'],
    ['dpp_audit', 'statement_timeout',                   '60s'],  -- an audit reads whole tables
    ['dpp_audit', 'lock_timeout',                        '2s'],
    ['dpp_audit', 'idle_in_transaction_session_timeout', '5s'],
    ['dpp_audit', 'transaction_timeout',                 '180s']];
  item text[];
begin
  foreach item slice 1 in array limits loop
    if not exists (select from pg_roles where rolname = item[1]) then
      execute format('create role %I login', item[1]);
    end if;
    -- PostgreSQL before 17 has no transaction_timeout.
    if current_setting(item[2], true) is not null
       and not exists (select from pg_db_role_setting
                        where setrole = item[1]::regrole and setdatabase = 0
                          and setconfig @> array[item[2] || '=' || item[3]]) then
      execute format('alter role %I set %s = %L', item[1], item[2], item[3]);
    end if;
  end loop;
end $$;
