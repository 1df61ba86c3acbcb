-- What a node says of itself; its row may not be there yet where it drains from its start on.
insert into nodes (node_id, last_heartbeat, reported_at, host, version, runs, concurrency, loops)
values (:node_id, dpp.now(), dpp.now(), :host, :version, :runs, :concurrency, :loops::text::jsonb)
on conflict (node_id) do update
   set reported_at = dpp.now(), host = excluded.host, version = excluded.version, runs = excluded.runs,
       concurrency = excluded.concurrency, loops = excluded.loops
