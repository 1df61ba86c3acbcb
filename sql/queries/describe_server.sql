-- What a server says of itself to the role that asks: one row. Times are in milliseconds, 0 = no limit;
-- transaction_timeout_ms is null where the server has no such limit (before PostgreSQL 17).
select current_setting('server_version_num')::int as version_number,
       current_setting('server_version') as version,
       current_user::text as role,
       current_setting('fsync') as fsync,
       current_setting('full_page_writes') as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit,
       (select setting::bigint from pg_settings where name = 'statement_timeout') as statement_timeout_ms,
       (select setting::bigint from pg_settings where name = 'lock_timeout') as lock_timeout_ms,
       (select setting::bigint from pg_settings where name = 'idle_in_transaction_session_timeout') as idle_timeout_ms,
       (select setting::bigint from pg_settings where name = 'client_connection_check_interval') as client_check_ms,
       (select setting::bigint from pg_settings where name = 'transaction_timeout') as transaction_timeout_ms
