-- A tenant's usage of a period of UTC days, both ends included; one row with a null day where nothing ran. An end that is
-- not given: today by the database, and :days days to the last. A period over :days_max reads no day at all. Python's first
-- and last day come as infinities, which nothing can be reckoned with.
with period as materialized (
  select greatest(coalesce(:first::date, ends.last - (:days::int - 1)), date '0001-01-01') as first, ends.last
    from (select least(coalesce(:last::date, (dpp.now() at time zone 'UTC')::date), date '9999-12-31') as last) as ends
)
select p.first, p.last, u.day, u.runs, u.completed, u.failed, u.cost, u.reserved
  from period p
  left join usage_days u
    on u.tenant_id = :tenant_id and u.day between p.first and p.last and p.last - p.first < :days_max::int
 order by u.day
