-- catalog: what schema dpp consists of, a line each; equal lines on PostgreSQL 15 to 18 for equal schemas.
-- Asked with an empty search_path, so that all names are printed in full. Left out: owners and what they may do (an
-- external database has its own), NOT NULL constraints (PostgreSQL 18 lists them, a column's line says it anyway).
with relation as (
  select pg_class.*, format('%I', relname) as name, pg_class.oid as id
    from pg_class
   where relnamespace = 'dpp'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
),
routine as (
  select pg_proc.*, format('%I(%s)', proname, pg_get_function_identity_arguments(oid)) as name
    from pg_proc
   where pronamespace = 'dpp'::regnamespace
),
privilege as (
  select 'schema dpp' as subject, acl.*, nspowner as owner
    from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) as acl
   where nspname = 'dpp'
  union all
  select format('%s %s', case relkind when 'S' then 'sequence' else 'relation' end, name), acl.*, relowner
    from relation, aclexplode(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))) as acl
  union all
  select format('column %s.%I', name, attname), acl.*, relowner
    from relation join pg_attribute on attrelid = id, aclexplode(attacl) as acl
  union all
  select format('function %s', name), acl.*, proowner
    from routine, aclexplode(coalesce(proacl, acldefault('f', proowner))) as acl
),
line as (
  select concat_ws(' ', 'relation', name, 'kind', relkind, 'persistence', relpersistence,
                   case when relrowsecurity then 'row security' end, case when relforcerowsecurity then 'forced' end,
                   'partition ' || pg_get_expr(relpartbound, id),
                   'with ' || (select string_agg(item, ' ' order by item) from unnest(reloptions) as item),
                   'toast with ' || (select string_agg(item, ' ' order by item)
                                       from pg_class toast, unnest(toast.reloptions) as item
                                      where toast.oid = relation.reltoastrelid)) as text
    from relation
  union all
  select concat_ws(' ', format('column %s.%I', name, attname), format_type(atttypid, atttypmod),
                   case when attnotnull then 'not null' end, case when not attislocal then 'inherited' end,
                   case when attgenerated::text = '' then 'default ' else 'generated ' || attgenerated::text || ' ' end
                     || pg_get_expr(adbin, adrelid),
                   'identity ' || nullif(attidentity::text, ''),
                   'collate ' || (select collname from pg_collation where oid = attcollation and collname <> 'default'))
    from relation join pg_attribute on attrelid = id left join pg_attrdef on adrelid = id and adnum = attnum
   where attnum > 0 and not attisdropped and relkind <> 'S'
  union all
  -- A view of one table names it before each column up to PostgreSQL 15 only, so tables' names before a dot are taken
  -- out. Aliases stay: where a view reads several tables, give them some.
  select format('view %s md5 %s', name, md5(regexp_replace(pg_get_viewdef(id),
                format('\m(%s)\.|\s+', (select string_agg(other.name, '|') from relation as other)), '', 'g')))
    from relation where relkind in ('v', 'm')
  union all
  select concat_ws(' ', format('constraint %s.%I', name, conname), pg_get_constraintdef(pg_constraint.oid),
                   case when not convalidated then 'not valid' end)
    from relation join pg_constraint on conrelid = id where contype <> 'n'
  union all
  select concat_ws(' ', 'index', pg_get_indexdef(indexrelid), case when not (indisvalid and indisready) then 'not valid' end)
    from relation join pg_index on indrelid = id
  union all
  select concat_ws(' ', 'trigger', pg_get_triggerdef(pg_trigger.oid), 'enabled ' || nullif(tgenabled::text, 'O'))
    from relation join pg_trigger on tgrelid = id where not tgisinternal
  union all
  select format('rule %s', pg_get_ruledef(pg_rewrite.oid))
    from relation join pg_rewrite on ev_class = id where rulename <> '_RETURN'
  union all
  select format('policy %s.%I permissive=%s command=%s roles=%s using=%s check=%s', name, polname, polpermissive, polcmd,
                (select string_agg(rolname, ',' order by rolname) from pg_roles where oid = any(polroles)),
                pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    from relation join pg_policy on polrelid = id
  union all
  select format('statistics %s', pg_get_statisticsobjdef(pg_statistic_ext.oid))
    from relation join pg_statistic_ext on stxrelid = id
  union all
  select format('sequence %s %s start %s increment %s min %s max %s cycle %s', name, format_type(seqtypid, null),
                seqstart, seqincrement, seqmin, seqmax, seqcycle)
    from relation join pg_sequence on seqrelid = id
  union all
  select concat_ws(' ', 'function', name, 'kind', prokind, 'returns', pg_get_function_result(routine.oid), 'language', lanname,
                   'volatility', provolatile, 'parallel', proparallel, case when proisstrict then 'strict' end,
                   case when prosecdef then 'security definer' end, case when proleakproof then 'leakproof' end,
                   'set ' || array_to_string(proconfig, ', '),
                   'md5', md5(regexp_replace(coalesce(pg_get_function_sqlbody(routine.oid), prosrc), '\s+', ' ', 'g')))
    from routine join pg_language on pg_language.oid = prolang
  union all
  select format('type %I kind=%s %s', typname, typtype, coalesce(
                (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = pg_type.oid),
                format_type(typbasetype, typtypmod)))
    from pg_type
   where typnamespace = 'dpp'::regnamespace and typtype in ('e', 'd', 'r')
  union all
  select format('comment on %s: %s', pg_describe_object(classoid, objoid, objsubid), description)
    from pg_description
   where classoid = 'pg_class'::regclass and objoid in (select id from relation)
  union all
  -- MAINTAIN came with PostgreSQL 17; only "all privileges" brings it along.
  select format('grant %s on %s to %s%s', privilege_type, subject,
                case grantee when 0 then 'public' else (select rolname from pg_roles where oid = grantee) end,
                case when is_grantable then ' with grant option' else '' end)
    from privilege
   where grantee <> owner and privilege_type <> 'MAINTAIN'
)
select text from line order by text collate "C"
