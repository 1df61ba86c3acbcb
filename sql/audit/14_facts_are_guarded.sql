-- submissions, endings and transfers are append-only: the database itself refuses to update, delete or truncate them
select guarded.name as guarded_table, event.name as refused
  from (values ('submissions'), ('endings'), ('transfers')) as guarded (name)
 cross join (values ('delete', 8), ('update', 16), ('truncate', 32)) as event (name, bit)
 where not exists (
   select from pg_catalog.pg_trigger t
     join pg_catalog.pg_class c on c.oid = t.tgrelid
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     join pg_catalog.pg_proc p on p.oid = t.tgfoid
    where p.proname = 'refuse_change' and p.prosrc ~ 'raise exception' and t.tgqual is null and t.tgattr = ''
      and n.nspname = 'dpp' and c.relname = guarded.name and t.tgenabled in ('O', 'A')
      and t.tgtype & 2 = 2 and t.tgtype & event.bit = event.bit
 )
 order by 1, 2
