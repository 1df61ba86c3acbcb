-- The rights in the current database, which may be shared with others: what is missing, a statement a row, in order.
-- A database that dpp_owner owns is DPP's alone: there nobody else may connect, as in the embedded cluster.
select statement
  from (
    select 1 as step, format('grant connect on database %I to %I', current_database(), rolname) as statement
      from pg_roles
     where rolname in ('dpp_owner', 'dpp_app', 'dpp_audit') and not has_database_privilege(oid, current_database(), 'connect')
    union all
    select 2, format('grant create on database %I to %I', current_database(), rolname)  -- the schema dpp
      from pg_roles
     where rolname = 'dpp_owner' and not has_database_privilege(oid, current_database(), 'create')
    union all
    select 3, format('grant usage, create on schema public to %I', rolname)  -- the table of migrations is made there
      from pg_roles
     where rolname = 'dpp_owner' and not (has_schema_privilege(oid, 'public', 'create') and has_schema_privilege(oid, 'public', 'usage'))
    union all
    select 4, format('grant usage on schema public to %I', rolname)  -- and read, at each start
      from pg_roles
     where rolname in ('dpp_app', 'dpp_audit') and not has_schema_privilege(oid, 'public', 'usage')
    union all
    select 5, format('revoke all on database %I from public', current_database())
      from pg_database join pg_roles on pg_roles.oid = datdba
     where datname = current_database() and rolname = 'dpp_owner' and has_database_privilege('public', pg_database.oid, 'connect')
    union all
    select 6, 'revoke create on schema public from public'
      from pg_database join pg_roles on pg_roles.oid = datdba
     where datname = current_database() and rolname = 'dpp_owner' and has_schema_privilege('public', 'public', 'create')
  ) as missing
 order by step, statement
