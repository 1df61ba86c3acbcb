-- Before the key that names it; asked again it stays as it is.
insert into allowances (allowance_id, tenant_id, spend_limit)
select :allowance_id, t.tenant_id, :spend_limit
  from tenants t
 where t.tenant_id = :tenant_id
on conflict (allowance_id) do nothing
returning allowance_id
