-- the hashes on every run equal its stored inputs and result; inputs go no earlier than the run's result may
select s.run_id, s.tenant_id, sha256(s.inputs) = s.inputs_sha256 as inputs_hold, sha256(e.result) = e.result_sha256 as result_holds
  from submissions s
  left join endings e on e.run_id = s.run_id
 where sha256(s.inputs) <> s.inputs_sha256 or sha256(e.result) <> e.result_sha256
    or s.inputs is null and coalesce(e.finished_at + s.result_days * interval '1 day' > dpp.now(), true)
 order by s.run_id
