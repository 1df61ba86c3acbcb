-- Replication slots and the bytes of WAL that each holds back; a standby counts from what it has replayed.
select slot_name::text as name, active, coalesce(wal_status = 'lost', false) as lost,
       greatest(coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                              else pg_current_wal_lsn() end, restart_lsn), 0), 0)::bigint as held_bytes
  from pg_replication_slots
 order by slot_name
