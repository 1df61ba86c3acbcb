-- The first and the last run whose result lies in the blob store; no row = there is none.
select first.run_id as first, last.run_id as last
  from (select run_id from endings where result_key is not null order by run_id limit 1) first,
       (select run_id from endings where result_key is not null order by run_id desc limit 1) last
