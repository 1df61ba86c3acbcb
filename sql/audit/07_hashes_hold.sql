-- the hashes on every run equal its stored inputs and result
select s.run_id, s.tenant_id, sha256(s.inputs) = s.inputs_sha256 as inputs_hold, sha256(e.result) = e.result_sha256 as result_holds
  from submissions s
  left join endings e on e.run_id = s.run_id
 where sha256(s.inputs) <> s.inputs_sha256 or sha256(e.result) <> e.result_sha256
 order by s.run_id
