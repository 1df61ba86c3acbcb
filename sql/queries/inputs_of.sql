-- Inputs of claimed runs, of as many as begin within :bytes: one at least. The length of a large value is known unread.
select i.run_id, i.inputs
  from (select s.run_id, s.inputs, sum(octet_length(s.inputs)) over (order by w.n) - octet_length(s.inputs) as before
          from unnest(:tenant_ids::text[], :run_ids::uuid[]) with ordinality as w (tenant_id, run_id, n)
          join submissions s on s.tenant_id = w.tenant_id and s.run_id = w.run_id) as i
 where i.before < :bytes
