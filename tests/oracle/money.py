"""The money checker: every promise as a question to one snapshot, answered with offenders.

Written apart from the product's own audit, from the rules alone, and on purpose in another way:
sums by account instead of folds by kind, `except` and `group by` instead of joins. The two must
agree. `Memory` carries over from check to check what must never change: epochs that only rise, and
facts that stay as they were.
"""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field, frozen

SNAPSHOT = "begin isolation level repeatable read read only"

# Every fact as moves between accounts. `outside` is deposits and what left again, `revenue` earns.
MOVES = """
with moves (tenant_id, seq, debit, credit, amount) as (
  select tenant_id, seq, 'available', 'held', max_cost from dpp.submissions
  union all select tenant_id, seq, 'held', 'revenue', cost from dpp.endings
  union all select tenant_id, seq, 'held', 'available', returned from dpp.endings
  union all select tenant_id, seq, 'outside', 'available', amount from dpp.transfers where kind = 'deposit'
  union all select tenant_id, seq, 'available', 'outside', amount from dpp.transfers where kind = 'withdraw'
  union all select tenant_id, seq, 'revenue', 'available', amount from dpp.transfers where kind = 'refund'
  union all select tenant_id, seq, 'outside', 'available', amount from dpp.transfers where kind = 'adjust'
),
entries (tenant_id, account, amount) as (
  select tenant_id, credit, amount from moves union all select tenant_id, debit, -amount from moves
),
accounts as (
  select tenant_id, account, sum(amount) as amount from entries group by tenant_id, account
)
"""  # noqa: E501

# What each reserve took and did not give back.
KEPT = """
with kept as (
  select s.tenant_id, s.seq, s.budget_day, s.allowance_id,
         s.max_cost - (select coalesce(sum(e.returned), 0) from dpp.endings e
                        where e.run_id = s.run_id and e.tenant_id = s.tenant_id) as amount
    from dpp.submissions s
)
"""

CHECKS: dict[str, str] = {
    "M1 what came in is there, per tenant": MOVES  # noqa: S608
    + """
    select b.tenant_id, b.available + b.held + b.spent as there,
           -coalesce((select amount from accounts a
                       where a.tenant_id = b.tenant_id and a.account = 'outside'), 0) as came_in
      from dpp.budgets b
     where b.available + b.held + b.spent
           <> -coalesce((select amount from accounts a
                          where a.tenant_id = b.tenant_id and a.account = 'outside'), 0)
        or b.deposited <> b.available + b.held + b.spent
    """,
    "M1 what came in is there, in all": MOVES  # noqa: S608
    + """
    select came_in, there
      from (select coalesce(-sum(amount), 0) as came_in from accounts where account = 'outside') as a,
           (select coalesce(sum(available), 0) + coalesce(sum(held), 0) + coalesce(sum(spent), 0) as there
              from dpp.budgets) as b
     where came_in <> there
    """,  # noqa: E501
    "M1 every fact belongs to a tenant with a budget": """
    (select tenant_id from dpp.submissions union select tenant_id from dpp.endings
      union select tenant_id from dpp.transfers union select tenant_id from dpp.live_runs)
    except select tenant_id from dpp.budgets
    """,
    "M2 one reserve and at most one resolution": """
    select run_id, count(*) filter (where what = 'reserve') as reserves,
           count(*) filter (where what = 'resolution') as resolutions, count(distinct tenant_id) as tenants
      from (select run_id, tenant_id, 'reserve' as what from dpp.submissions
            union all select run_id, tenant_id, 'resolution' from dpp.endings) as facts
     group by run_id
    having count(*) filter (where what = 'reserve') <> 1
        or count(*) filter (where what = 'resolution') > 1
        or count(distinct tenant_id) <> 1
    """,  # noqa: E501
    "M3 0 <= cost <= reserve, and the rest is returned": """
    select run_id, max_cost, cost, returned
      from dpp.submissions natural join (select tenant_id, run_id, cost, returned from dpp.endings) as e
     where not (0 <= cost and cost <= max_cost and returned = max_cost - cost)
    """,  # noqa: E501
    "M4 each part is the fold of the moves, and none is negative": MOVES  # noqa: S608
    + """
    select * from (
      select tenant_id, 'available' as account, available as amount from dpp.budgets
      union all select tenant_id, 'held', held from dpp.budgets
      union all select tenant_id, 'revenue', spent from dpp.budgets) as parts
     where amount < 0
        or amount is distinct from coalesce((select a.amount from accounts a
             where a.tenant_id = parts.tenant_id and a.account = parts.account), 0)
    """,
    "M5 a reserve is unresolved exactly while its run lives": """
    (select tenant_id, run_id, 'reserved and not live' as what from (
       select tenant_id, run_id from dpp.submissions except select tenant_id, run_id from dpp.endings
       except select tenant_id, run_id from dpp.live_runs) as lost)
    union all
    (select tenant_id, run_id, 'live and resolved' from (
       select tenant_id, run_id from dpp.live_runs intersect select tenant_id, run_id from dpp.endings) as twice)
    union all
    (select tenant_id, run_id, 'live and not reserved' from (
       select tenant_id, run_id from dpp.live_runs except select tenant_id, run_id from dpp.submissions) as stray)
    """,  # noqa: E501
    "M5 held is what the live runs may cost": """
    select tenant_id, held, reserved
      from dpp.budgets
      left join lateral (select coalesce(sum(l.max_cost), 0) as reserved from dpp.live_runs l
                          where l.tenant_id = budgets.tenant_id) as live on true
     where held <> reserved
    """,
    "M6 a completed run has its result, with the recorded digest, as long as it is served": """
    select e.run_id, e.status, octet_length(e.result) as bytes
      from dpp.endings e left join dpp.submissions s on s.run_id = e.run_id
     where case when e.status <> 'COMPLETED'
                then e.result is not null or e.result_key is not null or e.result_sha256 is not null
                when octet_length(e.result_sha256) is distinct from 32 then true
                when e.result is null and e.result_key is null
                then coalesce(e.finished_at + make_interval(days => s.result_days) > dpp.now(), true)
                when e.result_key is null
                then encode(sha256(e.result), 'hex') <> encode(e.result_sha256, 'hex')
                else e.result is not null end
    """,  # noqa: E501
    "M6 inputs have the recorded digest": """
    select run_id from dpp.submissions where encode(sha256(inputs), 'hex') <> encode(inputs_sha256, 'hex')
    """,  # noqa: E501
    "M7 each tenant's facts are numbered 1, 2, 3 without a gap": """
    with numbered as (
      select tenant_id, seq, row_number() over (partition by tenant_id order by seq) as place
        from (select tenant_id, seq from dpp.submissions union all select tenant_id, seq from dpp.endings
              union all select tenant_id, seq from dpp.transfers) as facts
    )
    select tenant_id, seq, place from numbered where seq <> place
    union all
    select b.tenant_id, b.seq, coalesce(max(n.place), 0)
      from dpp.budgets b left join numbered n on n.tenant_id = b.tenant_id
     group by b.tenant_id, b.seq having b.seq <> coalesce(max(n.place), 0)
    """,  # noqa: E501
    "M7 a closing entry is what it covers and what has gone": MOVES  # noqa: S608
    + """
    select c.tenant_id, c.seq, c.deposited, c.held, c.spent, c.gone, c.gone_deposited, c.gone_spent
      from dpp.closings c
      cross join lateral (
        select (select coalesce(sum(case when m.debit = 'outside' then m.amount when m.credit = 'outside' then -m.amount end), 0)
                  from moves m where m.tenant_id = c.tenant_id and m.seq <= c.seq) as came_in,
               (select coalesce(sum(case when m.credit = 'held' then m.amount when m.debit = 'held' then -m.amount end), 0)
                  from moves m where m.tenant_id = c.tenant_id and m.seq <= c.seq) as held,
               (select coalesce(sum(case when m.credit = 'revenue' then m.amount when m.debit = 'revenue' then -m.amount end), 0)
                  from moves m where m.tenant_id = c.tenant_id and m.seq <= c.seq) as earned,
               (select count(distinct m.seq) from moves m where m.tenant_id = c.tenant_id and m.seq <= c.seq) as facts) as there
     where (c.deposited - c.gone_deposited, c.held - c.gone_held, c.spent - c.gone_spent, c.seq - c.gone)
           <> (there.came_in, there.held, there.earned, there.facts)
    """,  # noqa: E501
    "M7 the guards of what is append-only stand": """
    select name, event from (values ('submissions'), ('endings'), ('transfers')) as t (name),
                            (values (8), (16), (32)) as e (event)
     where not exists (select from pg_trigger join pg_proc p on p.oid = tgfoid
                        where tgrelid = ('dpp.' || name)::regclass and tgenabled in ('O', 'A')
                          and tgtype & 2 = 2 and tgtype & event = event
                          and p.prosrc like '%raise exception%is append-only%')
    """,
    "every budget is a tenant's": """
    select tenant_id from dpp.budgets except select tenant_id from dpp.tenants
    """,
    "M8 nothing was told by an attempt that never was": """
    select e.run_id, max(e.lease_epoch) as told, max(r.lease_epoch) as now
      from dpp.run_events e
      join (select run_id, lease_epoch from dpp.live_runs union all select run_id, lease_epoch from dpp.endings) as r
        on r.run_id = e.run_id
     group by e.run_id having max(e.lease_epoch) > max(r.lease_epoch)
    """,  # noqa: E501
    "M9 one key, one run": """
    select tenant_id, idempotency_key, count(*) as runs, count(distinct fingerprint) as requests
      from dpp.submissions group by tenant_id, idempotency_key having count(*) > 1
    """,
    "who pays: every ending costs what money rules say": """
    select run_id, status, kind, cost, error_code, minimum_fee
      from dpp.endings natural join (select tenant_id, run_id, minimum_fee from dpp.submissions) as s
     where case
             when status = 'COMPLETED' then kind <> 'settle'
             when status = 'EXPIRED' then kind <> 'void' or cost <> 0 or lease_epoch <> 0
             when status = 'CANCELED' then (kind = 'settle') <> (cost > 0)
             when error_code in ('lost_lease', 'store_unavailable', 'infrastructure') then kind <> 'void' or cost <> 0
             when error_code = 'resolved_by_operator' then false
             else kind <> 'settle' or cost < minimum_fee
           end
    """,  # noqa: E501
    "M10 no run gives back more than it took": """
    select tenant_id, run_id, sum(earned) as kept
      from (select tenant_id, run_id, cost as earned, true as ended from dpp.endings
            union all select tenant_id, run_id, -amount, false from dpp.transfers where kind = 'refund') as flows
     group by tenant_id, run_id having sum(earned) < 0 or not bool_or(ended)
    """,  # noqa: E501
    "a transfer is signed, named and explained as its kind must be": """
    select tenant_id, seq, kind, amount, run_id, reason
      from dpp.transfers
     where case kind when 'deposit' then amount <= 0 or run_id is not null
                     when 'withdraw' then amount <= 0 or run_id is not null
                     when 'refund' then amount <= 0 or run_id is null or reason is null or reason = ''
                     when 'adjust' then amount = 0 or run_id is not null or reason is null or reason = ''
                     else true end
    union all
    select tenant_id, null, string_agg(kind, ' '), count(*), null, reference
      from dpp.transfers group by tenant_id, reference having count(*) > 1
    """,  # noqa: E501
    "the fee is the formula of the rule stored with the run": """
    select run_id, policy, max_cost, minimum_fee
      from dpp.submissions
     where minimum_fee <> least(greatest(split_part(policy, '/', 1)::numeric,
                                         div(max_cost::numeric * split_part(policy, '/', 2)::numeric, 1000000)),
                                max_cost, split_part(policy, '/', 3)::numeric)
    """,  # noqa: E501
    "a live row carries what was submitted": """
    select run_id, tenant_id, max_cost, minimum_fee, timebox_s, priority, pack_type, budget_day, allowance_id
      from dpp.live_runs
    except
    select run_id, tenant_id, max_cost, minimum_fee, timebox_s, priority, pack_type, budget_day, allowance_id
      from dpp.submissions
    """,  # noqa: E501
    "spend counts on the day of the last reserve": """
    select tenant_id, spend_day, last_day
      from dpp.budgets
      left join lateral (select budget_day as last_day from dpp.submissions s
                          where s.tenant_id = budgets.tenant_id order by seq desc fetch first row only) as s on true
     where spend_day <> coalesce(last_day, date 'epoch')
    """,  # noqa: E501
    "spend of the last day is what its reserves kept": KEPT  # noqa: S608
    + """
    select b.tenant_id, b.spend_day, b.day_spend, sum(k.amount) as kept
      from dpp.budgets b
      left join kept k on k.tenant_id = b.tenant_id and k.budget_day = b.spend_day
     group by b.tenant_id
    having b.day_spend <> coalesce(sum(k.amount), 0)
    """,
    "spend of the last month is what its reserves kept": KEPT  # noqa: S608
    + """
    select b.tenant_id, b.spend_day, b.month_spend, sum(k.amount) as kept
      from dpp.budgets b
      left join kept k on k.tenant_id = b.tenant_id
                      and extract(year from k.budget_day) = extract(year from b.spend_day)
                      and extract(month from k.budget_day) = extract(month from b.spend_day)
     group by b.tenant_id
    having b.month_spend <> coalesce(sum(k.amount), 0)
    """,
    "no reserve counts on a day before that of an earlier one": """
    select tenant_id, seq, budget_day, before
      from (select tenant_id, seq, budget_day,
                   lag(budget_day) over (partition by tenant_id order by seq) as before
              from dpp.submissions) as days
     where budget_day < before
    """,
    "an allowance has used what its reserves kept": KEPT  # noqa: S608
    + """
    (select tenant_id, allowance_id, used from dpp.allowances where used <> 0
     except
     select tenant_id, allowance_id, sum(amount) from kept group by tenant_id, allowance_id)
    union all
    (select tenant_id, allowance_id, sum(amount) from kept
      where allowance_id is not null group by tenant_id, allowance_id
     except
     select tenant_id, allowance_id, used from dpp.allowances)
    """,
    "no allowance is over its limit, or below nothing": """
    select tenant_id, allowance_id, used, spend_limit from dpp.allowances
     where used < 0 or used > spend_limit
    """,
    "usage of a day is what ended on it": """
    (select tenant_id, day, runs, completed, failed, cost, reserved from dpp.usage_days
     except all
     select tenant_id, date(timezone('utc', finished_at)), count(*), sum((status = 'COMPLETED')::int),
            sum((status = 'FAILED')::int), sum(cost)::bigint, sum(cost + returned)::bigint
       from dpp.endings group by 1, 2)
    union all
    (select tenant_id, date(timezone('utc', finished_at)), count(*), sum((status = 'COMPLETED')::int),
            sum((status = 'FAILED')::int), sum(cost)::bigint, sum(cost + returned)::bigint
       from dpp.endings group by 1, 2
     except all
     select tenant_id, day, runs, completed, failed, cost, reserved from dpp.usage_days)
    """,  # noqa: E501
}

EPOCHS = """
select run_id, lease_epoch from dpp.live_runs union all select run_id, lease_epoch from dpp.endings
"""
FACTS = """
select tenant_id, seq, 'submission' as what, md5(s::text) as digest from dpp.submissions s
union all select tenant_id, seq, 'ending', md5(e::text) from dpp.endings e
union all select tenant_id, seq, 'transfer', md5(t::text) from dpp.transfers t
"""


class Connection(Protocol):
    """What is asked of a connection; an asyncpg one will do."""

    async def execute(self, query: str) -> str: ...

    async def fetch(self, query: str) -> list[Any]: ...


@frozen
class Violation:
    """A promise that was not kept, and by what."""

    promise: str
    offender: dict[str, Any]


@define
class Memory:
    """What earlier checks saw: nothing of it may change."""

    epochs: dict[Any, int] = field(factory=dict)
    facts: dict[tuple[str, int], tuple[str, str]] = field(factory=dict)


async def violations(connection: Connection, memory: Memory | None = None) -> list[Violation]:
    """Ask everything of one snapshot; no violation means that the promises are kept."""
    await connection.execute(SNAPSHOT)
    try:
        found = [
            Violation(promise, dict(row))
            for promise, query in CHECKS.items()
            for row in await connection.fetch(query)
        ]
        if memory is not None:
            epochs, facts = await connection.fetch(EPOCHS), await connection.fetch(FACTS)
            found += remembered(memory, epochs, facts)
    finally:
        await connection.execute("rollback")  # noqa: ASYNC102 - it runs on asyncio
    return found


def remembered(memory: Memory, epochs: list[Any], facts: list[Any]) -> list[Violation]:
    """Compare with what was seen before, and remember what is new."""
    now = {row["run_id"]: row["lease_epoch"] for row in epochs}
    there = {(row["tenant_id"], row["seq"]): (row["what"], row["digest"]) for row in facts}
    found = [
        Violation("M8 no epoch ever falls", {"run_id": run_id, "was": was, "is": now.get(run_id)})
        for run_id, was in memory.epochs.items()
        if now.get(run_id, -1) < was
    ]
    found += [
        Violation("M7 no fact is ever changed", {"tenant_id": place[0], "seq": place[1]})
        for place, was in memory.facts.items()
        if there.get(place) != was
    ]
    memory.epochs, memory.facts = now, there
    return found
