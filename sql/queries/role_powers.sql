-- What the role that asks may: what a node needs none of, what it lacks of the rights that are wanted, and which facts it may
-- change. One row. A relation that is not there is lacked, too.
select current_user::text as role,
       to_regclass('stores') is distinct from to_regclass('dpp.stores') as astray,
       array_remove(array[
         case when me.rolsuper then 'is a superuser' end,
         case when me.rolcreaterole then 'may make roles' end,
         case when me.rolreplication then 'may replicate' end,
         case when me.rolbypassrls then 'passes by row security' end,
         (select 'may act as ' || owner.rolname || ', who owns the tables'
            from pg_namespace s join pg_roles owner on owner.oid = s.nspowner
           where s.nspname = 'dpp' and pg_has_role(me.oid, owner.oid, 'member'))
       ], null) as powers,
       array(select lower(w.privilege) || ' on ' || w.relation
               from unnest(:relations::text[], :privileges::text[]) as w (relation, privilege)
              where to_regclass('dpp.' || w.relation) is null
                 or not has_table_privilege(me.oid, to_regclass('dpp.' || w.relation), w.privilege)
              order by 1) as lacking,
       array(select lower(p.privilege) || ' on ' || c.relname
               from pg_class c
               join pg_namespace s on s.oid = c.relnamespace
               cross join unnest(array['UPDATE', 'DELETE', 'TRUNCATE']) as p (privilege)
              where s.nspname = 'dpp' and c.relname in ('submissions', 'endings', 'transfers', 'spent_keys')
                and has_table_privilege(me.oid, c.oid, p.privilege)
              order by 1) as facts
  from pg_roles me
 where me.rolname = current_user
