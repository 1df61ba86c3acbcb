-- The plans that tenants have, and how many have each.
select plan, count(*) as tenants
  from tenants
 group by plan
 order by plan
