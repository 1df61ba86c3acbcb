-- Ends the transactions of this role that write and are older than any of DPP's may become: a client that froze while
-- the server sent it rows, or waited for the rest of a statement, holds its locks for as long, and no limit of the
-- server counts then. Whoever changes the schema, under the same role maybe, holds other locks and is left alone.
select a.pid, extract(epoch from clock_timestamp() - a.xact_start)::float8 as age_s, pg_terminate_backend(a.pid) as ended
  from pg_stat_activity a
 where a.datname = current_database() and a.usename = current_user and a.pid <> pg_backend_pid()
   and a.backend_xid is not null and a.xact_start < clock_timestamp() - make_interval(secs => :older_s)
   and not exists (
         select from pg_locks l
          where l.pid = a.pid
            and (l.locktype = 'advisory'
                 or l.locktype = 'relation' and l.mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')))
