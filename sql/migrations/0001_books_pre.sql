-- two facts and one hot row: tenants, budgets, submissions, live runs, endings, transfers, leases
-- depends:

-- migrate: apply

create schema if not exists dpp;

set local search_path = dpp;

-- The one clock. Stable and plain SQL, so it is inlined and an index on a time is used; statement_timestamp(), so that
-- a statement after a lock wait does not judge by an old clock. Tests set dpp.fake_now in their transaction.
create function dpp.now() returns timestamptz language sql stable parallel safe
  return coalesce(nullif(current_setting('dpp.fake_now', true), '')::timestamptz, statement_timestamp());

-- The clock of what takes facts away: no setting moves it, so that whoever may ask cannot make them old.
create function dpp.server_now() returns timestamptz language sql stable parallel safe return statement_timestamp();

-- The first run id of a moment: run ids begin with their node's milliseconds since 1970 (RFC 9562, version 7).
create function dpp.first_id(moment timestamptz) returns uuid language sql immutable parallel safe
  return (lpad(to_hex(case when moment < '1970-01-01T00:00:00Z' then 0 else (extract(epoch from moment) * 1000)::bigint end), 12, '0') || repeat('0', 20))::uuid;

-- Facts stay as they are. Past retention they may leave, by dpp.prune alone, which turns dpp.pruning on while it runs: then
-- an update can do no more than take a body away, whatever it says.
create function dpp.refuse_change() returns trigger language plpgsql as $$
begin
  if current_setting('dpp.pruning', true) = 'on' then
    if tg_op = 'DELETE' then
      return old;
    elsif tg_op = 'UPDATE' and tg_table_name = 'submissions' then
      new := old;
      new.inputs := null;
      return new;
    elsif tg_op = 'UPDATE' and tg_table_name = 'endings' then
      new := old;
      new.result := null;
      new.result_key := null;
      return new;
    end if;
  end if;
  raise exception 'dpp: % is append-only; a correction is a new transfer', tg_table_name
    using errcode = 'restrict_violation';
end $$;

create table tenants (
  tenant_id text not null,
  plan text not null,
  created_at timestamptz not null,
  suspended_at timestamptz,
  frozen_at timestamptz,                       -- an open finding; apart from budgets, whose row may be the one refused
  constraint tenants_pk primary key (tenant_id),
  constraint tenants_name check (tenant_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'));

create table tenant_turns (                    -- a row for every tenant, made with it: the lock behind concurrency caps
  tenant_id text not null,
  constraint tenant_turns_pk primary key (tenant_id),
  constraint tenant_turns_tenant foreign key (tenant_id) references tenants);

create table budgets (
  tenant_id text not null,
  deposited bigint not null,
  available bigint not null,
  held bigint not null,
  spent bigint not null,
  seq bigint not null,                         -- the last submission, ending or transfer of this tenant
  window_from timestamptz,                     -- the rate window: anchored at its first admitted submission
  window_count int not null default 0,
  -- What this day and month (UTC) spend: reserves, minus what their resolutions returned. Here, not in rows of their own:
  -- the row is written anyhow, and a cap asks for today and this month alone.
  spend_day date not null default '1970-01-01',
  day_spend bigint not null default 0,
  month_spend bigint not null default 0,       -- of the month that spend_day lies in
  constraint budgets_spend check (day_spend >= 0 and month_spend >= day_spend),
  constraint budgets_pk primary key (tenant_id),
  constraint budgets_tenant foreign key (tenant_id) references tenants,
  constraint budgets_parts check (deposited >= 0 and available >= 0 and held >= 0 and spent >= 0),
  constraint budgets_conserve check (available + held + spent = deposited)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

create table allowances (                      -- what one API key, and those made with it, may spend in all
  allowance_id text not null,                  -- the key that it was made with
  tenant_id text not null,
  spend_limit bigint not null,
  used bigint not null default 0,              -- as budgets.day_spend; changed under the tenant's budget lock alone
  constraint allowances_pk primary key (allowance_id),
  constraint allowances_tenant foreign key (tenant_id) references tenants,
  constraint allowances_amount check (spend_limit > 0 and used between 0 and spend_limit)
) with (fillfactor = 50);

create index allowances_of_tenant on allowances (tenant_id);

create table api_keys (
  key_id text not null,
  tenant_id text not null,
  secret_sha256 bytea not null,
  scopes text[] not null,
  created_at timestamptz not null,
  created_by text not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  revoked_by text,
  allowance_id text,                           -- null = no limit of its own
  last_used_at timestamptz,                    -- to the hour
  constraint api_keys_pk primary key (key_id),
  constraint api_keys_allowance foreign key (allowance_id) references allowances,
  constraint api_keys_tenant foreign key (tenant_id) references tenants,
  constraint api_keys_secret check (length(secret_sha256) = 32));

create index api_keys_of_tenant on api_keys (tenant_id);

create table nodes (                           -- outlives its leases; never asked whether a node lives
  node_id text not null,
  last_heartbeat timestamptz not null,
  drained_at timestamptz,                      -- its last tenure ended in order
  reported_at timestamptz,                     -- what it says of itself, for operators to look at
  host text,
  version text,
  runs int,
  concurrency int,
  loops jsonb,                                 -- seconds since each of its loops last did its work
  drain_asked_at timestamptz,                  -- null = it may claim
  drain_operator text,
  drain_reason text,
  constraint nodes_pk primary key (node_id),
  constraint nodes_drain check ((drain_asked_at is null) = (drain_operator is null)
                                and (drain_asked_at is null) = (drain_reason is null))
) with (fillfactor = 50);

create table modes (                           -- what operators asked of all nodes; the last is in force until it expires
  n bigint not null generated always as identity,
  change_id uuid not null,
  mode text not null,
  reason text not null,
  operator text not null,
  set_at timestamptz not null,
  expires_at timestamptz,
  constraint modes_pk primary key (n),
  constraint modes_change unique (change_id),
  constraint modes_mode check (mode in ('normal', 'no-submit', 'drain')));

create view mode_in_force as                   -- no row where nobody ever asked for one: normal
  select case when expires_at <= dpp.now() then 'normal' else mode end as mode,
         extract(epoch from expires_at - dpp.now())::float8 as left_s
    from modes order by n desc limit 1;

create table node_leases (                     -- one row a tenure; alive = lease_until > dpp.now(); ended by delete alone
  lease_id uuid not null,
  node_id text not null,
  lease_until timestamptz not null,
  tenure bigint not null generated always as identity,  -- which of two was taken first; no clock is asked
  digest text not null default '',             -- of plans and packs, to name nodes that differ
  constraint node_leases_pk primary key (lease_id)
) with (fillfactor = 50);

-- No foreign keys on the facts: the statement that writes them updates the budget it names and its counts are asserted,
-- which proves the tenant; a foreign key asks the same again for each row of a batch.
create table submissions (                     -- append-only: the reserve, the idempotency key and the inputs at once
  tenant_id text not null,
  seq bigint not null,
  run_id uuid not null,
  max_cost bigint not null,
  minimum_fee bigint not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  timebox_s int not null,
  priority smallint not null,
  pack_type text not null,
  pack_version text not null,
  policy text not null,
  key_id text not null,
  trace_id text not null,
  idempotency_key text not null,
  fingerprint bytea not null,
  inputs bytea,                                -- null = past retention, as its result
  inputs_sha256 bytea not null,
  budget_day date not null,                    -- the UTC day whose spend it counts to
  allowance_id text,
  result_days smallint not null,               -- how long its result is served
  metadata text,                               -- the client's own, a JSON object; null = none
  webhook_url text,                            -- where deliveries go whose endpoint has its origin
  constraint submissions_run primary key (tenant_id, run_id),
  constraint submissions_key unique (tenant_id, idempotency_key),
  constraint submissions_seq unique (tenant_id, seq),
  constraint submissions_amount check (max_cost > 0 and minimum_fee between 0 and max_cost));

create table live_runs (                       -- the one hot row: there exactly while the run is QUEUED or PROCESSING
  run_id uuid not null,
  tenant_id text not null,
  available_at timestamptz not null,
  expires_at timestamptz not null,
  started_at timestamptz,
  deadline timestamptz,
  lease_id uuid,                               -- null = QUEUED, else PROCESSING
  lease_epoch bigint not null default 0,       -- raised by each claim, by nothing else
  max_cost bigint not null,
  minimum_fee bigint not null,
  timebox_s int not null,
  priority smallint not null,
  attempts_spent smallint not null default 0,  -- raised by a take-back with the attempt spent, by nothing else
  storing boolean not null default false,
  cancel_asked boolean not null default false, -- nothing clears it
  quarantined_at timestamptz,
  pack_type text not null,
  budget_day date not null,                    -- copied: the ending counts back what it returns
  allowance_id text,
  constraint live_runs_pk primary key (run_id),
  constraint live_runs_leased check ((lease_id is null) = (deadline is null)),
  constraint live_runs_storing check (not storing or lease_id is not null),
  constraint live_runs_started check ((started_at is null) = (lease_epoch = 0)),
  constraint live_runs_priority check (priority between 0 and 9)
) with (fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

create index live_runs_queue on live_runs (tenant_id, priority, available_at) where lease_id is null;
create index live_runs_leases on live_runs (tenant_id, lease_id) where lease_id is not null;
create index live_runs_storing on live_runs (run_id) where storing;
create index live_runs_unstarted on live_runs (expires_at) where lease_id is null and lease_epoch = 0;

create table endings (                         -- append-only: the resolution, the result and the final status at once
  run_id uuid not null,
  tenant_id text not null,
  seq bigint not null,
  status text not null,
  kind text not null,
  cost bigint not null,
  returned bigint not null,
  lease_epoch bigint not null,
  attempts_spent smallint not null,
  cancel_asked boolean not null,
  ending_id uuid not null,                     -- made once by who decided it: how a lost answer is told from a lost run
  started_at timestamptz,
  finished_at timestamptz not null,
  error_code text,
  error_detail text,
  result_sha256 bytea,
  result bytea,
  result_key text,                             -- of its object in the blob store, where it is too large for a row
  constraint endings_run primary key (run_id), -- at most one resolution a run
  constraint endings_seq unique (tenant_id, seq),
  constraint endings_status check (status in ('COMPLETED', 'FAILED', 'CANCELED', 'EXPIRED')),
  constraint endings_kind check (kind = 'settle' and status <> 'EXPIRED' or kind = 'void' and cost = 0 and status <> 'COMPLETED'),
  constraint endings_amount check (cost >= 0 and returned >= 0 and cost + returned > 0),
  constraint endings_result check ((status = 'COMPLETED') = (result_sha256 is not null)
    and num_nonnulls(result, result_key) <= num_nonnulls(result_sha256)),
  constraint endings_error check ((status = 'FAILED') = (error_code is not null)),
  constraint endings_payer check (             -- the platform's failures are free, the run's own are settled
    (status <> 'FAILED' or error_code = 'resolved_by_operator'
       or (kind = 'void') = (error_code in ('lost_lease', 'store_unavailable', 'infrastructure')))
    and (status <> 'CANCELED' or (kind = 'settle') = (cost > 0))));

create table transfers (                       -- append-only: what no run does by itself; adjust alone may be negative
  tenant_id text not null,
  seq bigint not null,
  kind text not null,
  amount bigint not null,
  run_id uuid,
  reference text not null,
  reason text,
  operator text not null,
  created_at timestamptz not null,
  constraint transfers_pk primary key (tenant_id, seq),
  constraint transfers_reference unique (tenant_id, reference),
  constraint transfers_kind check (kind in ('deposit', 'withdraw', 'refund', 'adjust')),
  constraint transfers_amount check (amount > 0 or kind = 'adjust' and amount <> 0),
  constraint transfers_subject check ((kind = 'refund') = (run_id is not null)),
  constraint transfers_reason check (kind not in ('refund', 'adjust') or coalesce(reason, '') <> ''));

create index transfers_refunds on transfers (run_id) where kind = 'refund';

create table usage_days (
  tenant_id text not null,
  day date not null,
  runs bigint not null,
  completed bigint not null,
  failed bigint not null,
  cost bigint not null,
  reserved bigint not null,
  constraint usage_days_pk primary key (tenant_id, day)
) with (fillfactor = 50);

create table spent_keys (                      -- keys that outlive their pruned runs; never written while the run is there
  tenant_id text not null,
  idempotency_key text not null,
  run_id uuid not null,
  fingerprint bytea not null,
  ended_at timestamptz not null,               -- of its run: keys are kept so long from then on
  pruned_at timestamptz not null,
  constraint spent_keys_pk primary key (tenant_id, idempotency_key),
  constraint spent_keys_run unique (run_id));

create index spent_keys_old on spent_keys (ended_at);

-- A tenant's closing entry: what its facts up to a place add up to. Those may leave; the fold is this and the facts behind
-- it. What has left is counted too, so that closing = what is left of those facts + what has gone.
create table closings (
  tenant_id text not null,
  seq bigint not null default 0,               -- of the last fact that it covers
  deposited bigint not null default 0,
  held bigint not null default 0,
  spent bigint not null default 0,
  unresolved bigint not null default 0,        -- reserves less resolutions
  spend_seq bigint not null default 0,         -- the last reserve's place, its day, and what that and its month spend
  spend_day date not null default '1970-01-01',
  day_spend bigint not null default 0,
  month_spend bigint not null default 0,
  closed_at timestamptz not null,
  bodies_seq bigint not null default 0,        -- up to here the bodies of ended runs have gone; this and below: dpp.prune alone
  gone bigint not null default 0,
  gone_deposited bigint not null default 0,
  gone_held bigint not null default 0,         -- 0, but of runs whose ending did not resolve their reserve
  gone_spent bigint not null default 0,
  constraint closings_pk primary key (tenant_id),
  constraint closings_tenant foreign key (tenant_id) references tenants,
  constraint closings_gone check (gone between 0 and seq),
  constraint closings_parts check (spend_seq <= seq)  -- sums may be below 0: contradictions may have been accepted
) with (fillfactor = 50);

create table closed_days (                     -- what ended up to the closing entry, by its day, as usage_days
  tenant_id text not null,
  day date not null,
  runs bigint not null,
  completed bigint not null,
  failed bigint not null,
  cost bigint not null,
  reserved bigint not null,
  constraint closed_days_pk primary key (tenant_id, day));

create table closed_allowances (               -- what an allowance had used at the closing entry
  tenant_id text not null,
  allowance_id text not null,
  used bigint not null,
  constraint closed_allowances_pk primary key (tenant_id, allowance_id));

create table webhooks (                        -- endpoints of tenants; a deleted one stays for its deliveries
  webhook_id uuid not null,
  tenant_id text not null,
  url text not null,
  events text[] not null,
  secret bytea not null,
  previous_secret bytea,                       -- signs too, until previous_until
  previous_until timestamptz,
  created_at timestamptz not null,
  disabled_at timestamptz,
  disabled_reason text,
  deleted_at timestamptz,
  constraint webhooks_pk primary key (webhook_id),
  constraint webhooks_tenant foreign key (tenant_id) references tenants,
  constraint webhooks_previous check ((previous_secret is null) = (previous_until is null)),
  constraint webhooks_disabled check ((disabled_at is null) = (disabled_reason is null)));

create index webhooks_of_tenant on webhooks (tenant_id) where deleted_at is null;

create table webhook_deliveries (              -- the outbox: written with the ending, one row an event and endpoint
  delivery_id uuid not null default gen_random_uuid(),  -- the webhook-id that the receiver sees, at each attempt
  tenant_id text not null,
  webhook_id uuid not null,
  event text not null,
  run_id uuid not null,                        -- of budget.low: the run whose ending crossed the threshold
  detail text,                                 -- of budget.low: the budget at that moment, a JSON object
  created_at timestamptz not null,
  attempts smallint not null default 0,
  next_at timestamptz,                         -- null = nothing is tried any more
  status text not null default 'pending',
  response_status smallint,
  error text,
  delivered_at timestamptz,
  constraint webhook_deliveries_pk primary key (delivery_id),
  constraint webhook_deliveries_once unique (run_id, webhook_id, event),
  constraint webhook_deliveries_status check (status in ('pending', 'delivered', 'failed')),
  constraint webhook_deliveries_next check ((status = 'pending') = (next_at is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

create index webhook_deliveries_due on webhook_deliveries (webhook_id, next_at) where status = 'pending';
create index webhook_deliveries_log on webhook_deliveries (webhook_id, created_at, delivery_id);

create table run_events (                      -- progress and charges of an attempt, numbered by it
  run_id uuid not null,
  lease_epoch bigint not null,
  n int not null,
  tenant_id text not null,
  kind text not null,
  fraction double precision,
  note text,
  amount bigint,
  created_at timestamptz not null,
  constraint run_events_pk primary key (run_id, lease_epoch, n),
  constraint run_events_kind check (kind in ('progress', 'charge')));

create table findings (
  finding_id uuid not null default gen_random_uuid(),
  invariant text not null,
  subject text not null,
  tenant_id text,
  evidence jsonb not null,
  opened_at timestamptz not null,
  resolved_at timestamptz,
  resolution jsonb,
  constraint findings_pk primary key (finding_id));

create table stores (                          -- which stores of results hold what endings point to
  name text not null,
  store_id uuid not null,                      -- written into the store too: another directory would answer "missing"
  constraint stores_pk primary key (name));

create index endings_large on endings (run_id) where result_key is not null; -- the audit samples them

create unique index findings_open on findings (invariant, subject) where resolved_at is null;

create trigger submissions_append_only before update or delete on submissions for each row execute function dpp.refuse_change();
create trigger submissions_no_truncate before truncate on submissions for each statement execute function dpp.refuse_change();
create trigger endings_append_only before update or delete on endings for each row execute function dpp.refuse_change();
create trigger endings_no_truncate before truncate on endings for each statement execute function dpp.refuse_change();
create trigger transfers_append_only before update or delete on transfers for each row execute function dpp.refuse_change();
create trigger transfers_no_truncate before truncate on transfers for each statement execute function dpp.refuse_change();

-- Retention is the one way that facts leave. Each of these is asked for one tenant and a bounded batch, by whoever may
-- write to the books; none takes a run that has not ended, nor a fact behind the closing entry, nor anything younger than
-- a day. The caller holds the tenant's budget row.

-- Runs that ended so many days ago, with their keys kept in spent_keys, and transfers that old (0 = they stay). A refund
-- leaves no earlier than its run; a run no earlier than the closing entry covers its refunds, its result is served no more
-- and its webhooks are told; what a finding is open of stays, and so does all of a frozen tenant.
create function dpp.prune(whose text, run_days int, transfer_days int, most int, out runs int, out moves int)
  language plpgsql security definer set search_path = dpp, pg_temp as $$
declare
  closed closings%rowtype;
  kept int;
  resolved int;
  held_gone bigint;
  cost_gone bigint;
  deposits_gone bigint;
  refunds_gone bigint;
begin
  if run_days < 1 or transfer_days < 0 then
    raise exception 'dpp: nothing younger than a day is pruned' using errcode = 'restrict_violation';
  end if;
  select * into closed from closings where tenant_id = whose for no key update;
  runs := 0;
  moves := 0;
  if exists (select from tenants where tenant_id = whose and frozen_at is not null) then
    return;
  end if;
  perform set_config('dpp.pruning', 'on', true);
  with ended as materialized (
    select e.run_id, e.finished_at
      from endings e
      join submissions s on s.tenant_id = e.tenant_id and s.run_id = e.run_id
     where e.tenant_id = whose and e.seq <= closed.seq and e.finished_at < dpp.server_now() - run_days * interval '1 day'
       and e.finished_at + s.result_days * interval '1 day' <= dpp.server_now()
       and not exists (select from webhook_deliveries d where d.run_id = e.run_id and d.status = 'pending')
       and e.run_id::text not in (select f.subject from findings f where f.resolved_at is null)
       and not exists (select from transfers t where t.run_id = e.run_id and t.kind = 'refund' and t.seq > closed.seq)
     order by e.seq
     limit most
  ),
  reserves as (
    delete from submissions s where s.tenant_id = whose and s.run_id = any(array(select run_id from ended))
    returning s.run_id, s.idempotency_key, s.fingerprint, s.max_cost
  ),
  keys as (
    insert into spent_keys (tenant_id, idempotency_key, run_id, fingerprint, ended_at, pruned_at)
    select whose, r.idempotency_key, r.run_id, r.fingerprint, ended.finished_at, dpp.server_now()
      from reserves r join ended on ended.run_id = r.run_id
    returning run_id
  ),
  resolutions as (
    delete from endings e where e.tenant_id = whose and e.run_id = any(array(select run_id from ended))
    returning e.cost, e.returned
  ),
  told as (delete from run_events where run_id = any(array(select run_id from ended))),
  delivered as (delete from webhook_deliveries where run_id = any(array(select run_id from ended)))
  select (select count(*) from reserves), (select count(*) from keys), (select count(*) from resolutions),
         (select coalesce(sum(cost), 0) from resolutions),
         (select coalesce(sum(max_cost), 0) from reserves) - (select coalesce(sum(cost + returned), 0) from resolutions)
    into runs, kept, resolved, cost_gone, held_gone;
  if kept <> runs or resolved <> runs then
    raise exception 'dpp: of % runs % keys and % endings', runs, kept, resolved using errcode = 'restrict_violation';
  end if;
  with old as materialized (
    select t.seq from transfers t
     where transfer_days > 0 and t.tenant_id = whose and t.seq <= closed.seq
       and t.created_at < dpp.server_now() - transfer_days * interval '1 day'
       and not exists (select from submissions s where s.tenant_id = whose and s.run_id = t.run_id)
     order by t.seq
     limit most
  ),
  gone as (
    delete from transfers t where t.tenant_id = whose and t.seq = any(array(select seq from old))
    returning t.kind, t.amount
  )
  select count(*), coalesce(sum(case kind when 'refund' then 0 when 'withdraw' then -amount else amount end), 0),
         coalesce(sum(amount) filter (where kind = 'refund'), 0)
    into moves, deposits_gone, refunds_gone from gone;
  update closings
     set gone = closings.gone + 2 * runs + moves, gone_deposited = closings.gone_deposited + deposits_gone,
         gone_held = closings.gone_held + held_gone,
         gone_spent = closings.gone_spent + cost_gone - refunds_gone
   where tenant_id = whose;
  perform set_config('dpp.pruning', '', true);
end $$;

-- The inputs and the result of runs whose result is served no more, in the order that they ended in: the first that is
-- still served stops it. Returns how many were looked at that may go.
create function dpp.prune_bodies(whose text, most int) returns int
  language plpgsql security definer set search_path = dpp, pg_temp as $$
declare
  done bigint;
  until_seq bigint;
  run_ids uuid[];
begin
  select bodies_seq into done from closings where tenant_id = whose for no key update;
  with page as materialized (
    select e.run_id, e.seq, e.finished_at + s.result_days * interval '1 day' <= dpp.server_now() as over
      from (select run_id, seq, finished_at from endings where tenant_id = whose and seq > done order by seq limit most) as e
      join submissions s on s.tenant_id = whose and s.run_id = e.run_id
  ),
  served as (select coalesce(min(seq), 9223372036854775807) as seq from page where not over)
  select max(page.seq), coalesce(array_agg(page.run_id), '{}') into until_seq, run_ids
    from page cross join served where page.seq < served.seq;
  perform set_config('dpp.pruning', 'on', true);
  update endings set result = null, result_key = null
   where run_id = any(run_ids) and num_nonnulls(result, result_key) > 0;
  update submissions set inputs = null where tenant_id = whose and run_id = any(run_ids) and inputs is not null;
  perform set_config('dpp.pruning', '', true);
  update closings set bodies_seq = until_seq where tenant_id = whose and until_seq is not null;
  return cardinality(run_ids);
end $$;

-- Keys whose run ended so many days ago and has left: from then on they may name a run again. Returns how many.
create function dpp.forget_keys(days int, most int) returns int
  language sql security definer set search_path = dpp, pg_temp as $$
  with old as materialized (
    select tenant_id, idempotency_key from spent_keys
     where ended_at < dpp.server_now() - greatest(days, 1) * interval '1 day' order by ended_at limit most for update skip locked
  ),
  gone as (
    delete from spent_keys k using old where k.tenant_id = old.tenant_id and k.idempotency_key = old.idempotency_key
    returning 1
  )
  select count(*)::int from gone;
$$;

create view ledger as                          -- the books as one list; seq has no gap per tenant over all three
  select tenant_id, seq, 'reserve' as kind, max_cost as amount, null::bigint as cost, null::bigint as returned,
         run_id, null::text as reference, null::text as reason, created_at
    from submissions
  union all
  select tenant_id, seq, kind, cost + returned, cost, returned, run_id, null, null, finished_at from endings
  union all
  select tenant_id, seq, kind, amount, null, null, run_id, reference, reason, created_at from transfers;

create view runs as                            -- one statement, one snapshot: a run is never seen without a status
  select s.run_id, s.tenant_id, s.pack_type, s.idempotency_key, s.priority, s.timebox_s, s.max_cost, s.minimum_fee,
         s.policy, s.trace_id, s.created_at, s.expires_at,
         coalesce(e.status, case when l.run_id is null then null
                                 when l.lease_id is null then 'QUEUED' else 'PROCESSING' end) as status,
         coalesce(e.started_at, l.started_at) as started_at, e.finished_at, e.cost as actual_cost,
         coalesce(e.lease_epoch, l.lease_epoch) as lease_epoch,
         coalesce(e.attempts_spent, l.attempts_spent) as attempts_spent,
         coalesce(e.cancel_asked, l.cancel_asked) as cancel_asked,
         e.error_code, e.error_detail, e.result_sha256, e.result, e.result_key, s.metadata,
         case when e.status = 'COMPLETED' then e.finished_at + s.result_days * interval '1 day' end as result_expires_at
    from submissions s
    left join live_runs l on l.run_id = s.run_id
    left join endings e on e.run_id = s.run_id;

revoke execute on function dpp.prune, dpp.prune_bodies, dpp.forget_keys from public;

do $$
begin
  if exists (select from pg_roles where rolname = 'dpp_app') then
    grant usage on schema dpp to dpp_app;
    grant execute on function dpp.prune, dpp.prune_bodies, dpp.forget_keys to dpp_app;
    grant select on all tables in schema dpp to dpp_app;
    grant insert on submissions, endings, transfers, tenants, tenant_turns, budgets, api_keys, nodes, node_leases, live_runs,
      usage_days, run_events, findings, stores, allowances, webhooks, webhook_deliveries, modes, closed_days, closed_allowances to dpp_app;
    grant insert (tenant_id, closed_at) on closings to dpp_app;
    grant update (seq, deposited, held, spent, unresolved, spend_seq, spend_day, day_spend, month_spend, closed_at)
      on closings to dpp_app;
    grant update on tenants, tenant_turns, budgets, api_keys, nodes, node_leases, live_runs, usage_days, findings, allowances,
      webhooks, webhook_deliveries, closed_days, closed_allowances to dpp_app;
    grant delete on node_leases, live_runs to dpp_app;
  end if;
  if exists (select from pg_roles where rolname = 'dpp_audit') then
    grant usage on schema dpp to dpp_audit;
    grant select on all tables in schema dpp to dpp_audit;
    revoke select on webhooks from dpp_audit;  -- it holds what signs
    grant select (webhook_id, tenant_id, url, events, created_at, disabled_at, disabled_reason, deleted_at) on webhooks to dpp_audit;
  end if;
end $$;

-- migrate: rollback

drop schema dpp cascade;
