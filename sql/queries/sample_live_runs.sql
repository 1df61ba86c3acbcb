-- The same about, of a queue too long to be counted: from :pages pages of the table, drawn at random. Of a million queued
-- runs it reads one in fifty, and is a few per cent off.
with share as materialized (
  select least(100, 100.0 * :pages::int * current_setting('block_size')::int
                    / greatest(1, pg_relation_size('live_runs')))::float8 as percent
)
select case when lease_id is null then 'QUEUED' else 'PROCESSING' end as status, pack_type,
       round(count(*) * 100 / (select percent from share))::bigint as runs
  from live_runs tablesample system ((select percent from share))
 group by status, pack_type
