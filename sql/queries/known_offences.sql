-- Those of these offences that need no finding: one is open, or an operator accepted the same digest. By their place.
with item as materialized (
  select *
    from unnest(:invariants::text[], :subjects::text[], :digests::text[]) with ordinality as i (invariant, subject, digest, n)
)
select i.n
  from item i
 where exists (select from findings f
                where f.invariant = i.invariant and f.subject = i.subject
                  and (f.resolved_at is null or f.resolution ->> 'digest' = i.digest))
 order by i.n
