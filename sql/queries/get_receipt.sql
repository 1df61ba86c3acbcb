-- What a run's receipt is derived from: its submission, and its ending where it has ended. Index probes in one snapshot;
-- neither `is_live` nor an ending is a finding.
select s.run_id, s.tenant_id, s.seq, s.pack_type, s.pack_version, s.inputs_sha256, s.max_cost, s.policy, s.created_at,
       l.run_id is not null as is_live, l.lease_id is not null as is_leased,
       e.seq as resolution_seq, e.status, e.cost, e.returned, e.attempts_spent, e.result_sha256, e.finished_at
  from submissions s
  left join live_runs l on l.run_id = s.run_id
  left join endings e on e.run_id = s.run_id
 where s.tenant_id = :tenant_id and s.run_id = :run_id
