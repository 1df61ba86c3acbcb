"""What an audit of a million transfers takes: the whole one, and the auditor's own.

    python -m bench.audit [--transfers N] [--tenants N] [--json]

A database is filled with submissions, endings and deposits as DPP would have written them. Measured
are the whole audit as `dpp audit` asks it, the auditor's first pass (all of it, page by page: the
slowest page counts), and a pass behind a minute of work.
"""

import argparse
import asyncio  # noqa: TID251 - it talks to PostgreSQL directly
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from dpp.actors.auditor import FACTS_MAX, TENANTS_MAX
from dpp.auditing import Mark
from dpp.findings import AuditedPage
from dpp.store import auditing, audits, migrate, roles
from dpp.store.connections import Address, Connection, connect
from tests.cluster import start_cluster

WHOLE_S = 10.0  # what is promised, a million transfers
PAGE_S = 0.1
FRESH = 5_000  # runs that end while the auditor sleeps
# Run n is of tenant n % :tenants: submitted, and ended for a part of what it reserved. All count to
# one day, the most that there is to add up; a part of them to their tenant's allowance.
FILL = """
set search_path = dpp;
set session_replication_role = replica;
create function pg_temp.run(n bigint) returns uuid immutable language sql
  return ('0199c82c-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
create function pg_temp.tenant(n bigint) returns text immutable language sql
  return 't' || lpad((n % {tenants})::text, 6, '0');
insert into tenants
  select pg_temp.tenant(n), 'unlimited', now() from generate_series(0, {tenants} - 1) n
  on conflict do nothing;
insert into transfers
  select pg_temp.tenant(n), 1, 'deposit', 900000000000, null, 'first', null, 'ops', now()
    from generate_series(0, {tenants} - 1) n on conflict do nothing;
insert into submissions
  select pg_temp.tenant(n), 2 + 2 * (n / {tenants}), pg_temp.run(n), 1000000, 20000, now(),
         now() + interval '1 day', 60, 5, 'echo', '1', '5000/20000/100000', 'key', repeat('0', 32),
         'order-' || n, sha256('body'), i.body, sha256(i.body), (now() at time zone 'utc')::date,
         case when n / {tenants} % 4 = 0 then pg_temp.tenant(n) end, 30
    from generate_series({first}::bigint, {last}::bigint - 1) n,
         lateral (select convert_to(
           '{{"message":"run ' || n || repeat(' and so on', 20) || '"}}', 'utf8') as body) i;
insert into endings
  select pg_temp.run(n), pg_temp.tenant(n), 3 + 2 * (n / {tenants}), 'COMPLETED', 'settle', 50000,
         950000, 1, 0, false, gen_random_uuid(), now(), now(), null, null, sha256(r.body), r.body
    from generate_series({first}::bigint, {last}::bigint - 1) n,
         lateral (select convert_to('{{"answer":' || n || '}}', 'utf8') as body) r;
delete from budgets;
insert into budgets
  select tenant_id, 900000000000, 900000000000 - coalesce(sum(cost), 0), 0, coalesce(sum(cost), 0),
         max(seq), null, 0, (now() at time zone 'utc')::date, sum(cost), sum(cost)
    from ledger group by tenant_id;
delete from allowances;
insert into allowances
  select s.tenant_id, s.tenant_id, 900000000000, sum(e.cost)
    from submissions s join endings e on e.run_id = s.run_id
   where s.allowance_id is not null group by s.tenant_id;
delete from usage_days;
insert into usage_days
  select tenant_id, (finished_at at time zone 'utc')::date, count(*), count(*), 0, sum(cost),
         sum(cost + returned)
    from endings group by 1, 2;
"""


def cpu_s(postmaster: int) -> float:
    """Return the processor time of a server: of its processes, and of those that have ended."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()  # from the state on
            own, waited = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
            if stat.parent.name == str(postmaster):
                total += own + waited
            elif fields[1] == str(postmaster):
                total += own
    return total / tick


def parent_of(pid: int) -> int:
    """Return the process that made another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def fill(host: str, tenants: int, first: int, last: int) -> None:
    """Write runs `first` to `last` as a superuser does."""
    server = await asyncpg.connect(host=host, user="postgres", database=roles.DATABASE)
    await server.execute(FILL.format(tenants=tenants, first=first, last=last))
    await server.execute("vacuum analyze")  # as autovacuum leaves tables behind it
    await server.close()


async def make(host: str) -> None:
    """Make the roles and the schema."""
    await roles.make_database(host)
    owner = await asyncpg.connect(host=host, user=roles.OWNER, database=roles.DATABASE)
    await migrate.up(owner)
    await owner.close()


async def passing(connection: Connection, marks: dict[str, Mark]) -> tuple[list[float], int]:
    """Make one pass; return what each page took, and how much was wrong."""
    times: list[float] = []
    wrong = 0
    after: str | None = ""
    while after is not None:
        began_at = time.perf_counter()
        page: AuditedPage = await auditing.audit_page(
            connection, marks, after=after, tenants_max=TENANTS_MAX, facts_max=FACTS_MAX
        )
        times.append(time.perf_counter() - began_at)
        marks.update(page.marks)
        wrong += len(page.offences)
        after = page.after
    return times, wrong


async def measure(host: str, *, transfers: int, tenants: int) -> dict[str, Any]:
    """Fill, audit, look; returns the figures."""
    await make(host)
    runs = (transfers - tenants) // 2
    await fill(host, tenants, 0, runs)
    address = Address(
        {"host": host, "user": "dpp_audit", "database": roles.DATABASE}, server="primary"
    )
    connection = await connect(address)
    postmaster = parent_of(connection.get_server_pid())
    began_at, used_s = time.perf_counter(), cpu_s(postmaster)
    audit = await audits.audit(connection)
    whole_s, used_s = time.perf_counter() - began_at, cpu_s(postmaster) - used_s
    each: dict[str, float] = {}
    await connection.execute(audits.BEGIN_AUDIT)
    for one in audits.invariants():
        began_at = time.perf_counter()
        await audits.ask(connection, one, frozenset())
        each[one.name] = round(time.perf_counter() - began_at, 2)
    await connection.execute("commit")
    marks: dict[str, Mark] = {}
    first, wrong = await passing(connection, marks)
    idle, _ = await passing(connection, marks)
    await fill(host, tenants, runs, runs + FRESH)
    fresh, more = await passing(connection, marks)
    await connection.close()
    return {
        "transfers": 2 * runs + tenants,
        "tenants": tenants,
        "whole_s": round(whole_s, 2),
        "whole_s_a_million": round(whole_s * 1e6 / (2 * runs + tenants), 2),
        "cpu_s_a_million": round(used_s * 1e6 / (2 * runs + tenants), 2),
        "load": round(os.getloadavg()[0], 1),
        "each_s": each,
        "first_pass_s": round(sum(first), 2),
        "first_pages": len(first),
        "first_page_ms": round(1000 * sorted(first)[len(first) // 2], 1),
        "first_slowest_ms": round(1000 * max(first), 1),
        "idle_pass_ms": round(1000 * sum(idle), 1),
        "fresh_facts": 2 * FRESH,
        "fresh_pages_ms": [round(1000 * took, 1) for took in fresh],
        "clean": audit.ok and not wrong and not more,
    }


def main() -> int:
    """Run the benchmark and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--transfers", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dpp-bench-") as directory:
        cluster = start_cluster(Path(directory), max_connections=20)
        try:
            figures = asyncio.run(
                measure(cluster.host, transfers=given.transfers, tenants=given.tenants)
            )
        finally:
            cluster.stop()
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>18}  {value}")
    return 0 if figures["clean"] and figures["whole_s_a_million"] <= WHOLE_S else 1


if __name__ == "__main__":
    sys.exit(main())
