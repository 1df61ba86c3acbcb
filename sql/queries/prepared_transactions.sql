-- Transactions of this database that were prepared and not ended, the oldest first.
select gid, owner::text as owner, extract(epoch from clock_timestamp() - prepared)::float8 as age_s
  from pg_prepared_xacts
 where database = current_database()
 order by prepared
 limit :limit::int
