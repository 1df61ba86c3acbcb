"""What a claim of a hundred runs costs beside a long queue of many tenants, and on empty tables.

    python -m bench.claims [--queued N] [--tenants N] [--claims N] [--json]

Two databases on one PostgreSQL, asked in turn, so that whatever else the machine does hits both. In
the long one each of so many tenants has ten runs that wait, and one of them has all the rest; in
the other there is never more than the next claim. The ring goes round as a node's does.
"""

import argparse
import asyncio  # noqa: TID251 - it talks to PostgreSQL directly
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import asyncpg
from attrs import define, field

from dpp.actors.claimer import RUNS, SCAN_MAX, TENANTS
from dpp.actors.ring import Ring
from dpp.claims import Claim
from dpp.leases import NodeLease
from dpp.plans import Plan
from dpp.store import claims, leases, migrate, roles
from dpp.store.connections import Address, Connection, connect
from tests.cluster import start_cluster

RATIO_MAX = 2.0  # what is promised of the 95th percentile
EACH = 10  # runs that a quiet tenant has waiting
LEASE_S = 3600.0
PLANS = {"basic": Plan("basic"), "capped": Plan("capped", concurrent_runs=1_000_000)}
# Runs first to last, dealt out to the tenants in turn, beyond EACH of each to the first one. All
# priorities, and due at different times; every tenth tenant has a plan with a cap to be counted.
FILL = """
set search_path = dpp;
set session_replication_role = replica;
create function pg_temp.run(n bigint) returns uuid immutable language sql
  return ('0199c82c-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
create function pg_temp.tenant(n bigint) returns text immutable language sql
  return 't' || lpad(case when n < {tenants} * {each} then n % {tenants} else 0 end::text, 6, '0');
insert into tenants
  select 't' || lpad(n::text, 6, '0'), case when n % 10 = 0 then 'capped' else 'basic' end, now()
    from generate_series(0, {tenants} - 1) n on conflict do nothing;
insert into tenant_turns select tenant_id from tenants on conflict do nothing;
insert into submissions
  select pg_temp.tenant(n), n + 2, pg_temp.run(n), 1000000, 20000, now(), now() + interval '1 day',
         60, n % 10, 'echo', '1', '5000/20000/100000', 'key', repeat('0', 32), 'order-' || n,
         sha256('body'), i.body, sha256(i.body), (now() at time zone 'utc')::date, null, 30
    from generate_series({first}::bigint, {last}::bigint - 1) n,
         lateral (select convert_to('{{"message":"run ' || n || '"}}', 'utf8') as body) i;
insert into live_runs (run_id, tenant_id, available_at, expires_at, max_cost, minimum_fee,
                       timebox_s, priority, pack_type, budget_day)
  select run_id, tenant_id, now() - {spread_s} * random() * interval '1 second', expires_at,
         max_cost, minimum_fee, timebox_s, priority, pack_type, budget_day
    from submissions where run_id >= pg_temp.run({first});
"""


@define(eq=False)
class Side:
    """One database, and a ring that goes round its tenants."""

    host: str
    database: str
    tenants: int
    each: int
    spread_s: (
        int  # what came later is due later, for who fills it again: a ring's bounds rest on that
    )
    connection: Connection
    lease: NodeLease = field(factory=lambda: NodeLease(uuid4(), "bench"))
    ring: Ring = field(factory=lambda: Ring(Random(7)))
    filled: int = 0
    took_s: list[float] = field(factory=list)

    async def fill(self, runs: int) -> None:
        """Let so many more wait."""
        server = await asyncpg.connect(host=self.host, user="postgres", database=self.database)
        last = self.filled + runs
        filling = FILL.format(
            tenants=self.tenants,
            each=self.each,
            spread_s=self.spread_s,
            first=self.filled,
            last=last,
        )
        await server.execute(filling)
        await server.close()
        self.filled = last

    async def tidy(self) -> None:
        """Leave tables as autovacuum does."""
        server = await asyncpg.connect(host=self.host, user="postgres", database=self.database)
        await server.execute("vacuum analyze")
        await server.close()

    async def scan(self) -> float:
        """Find all tenants with queued runs, as a claimer does in its first rounds."""
        after, took_s = "", 0.0
        while True:
            began_at = time.perf_counter()
            found = await claims.queued_tenants(self.connection, after, SCAN_MAX)
            took_s = max(took_s, time.perf_counter() - began_at)
            self.ring.refreshed(found, 0.0)
            if len(found) < SCAN_MAX:
                return took_s
            after = found[-1]

    async def claim(self) -> None:
        """Claim a hundred, timed."""
        asked = self.ring.next(TENANTS, RUNS)
        claim = Claim(lease=self.lease, turns=asked.turns, packs=("echo",))
        began_at = time.perf_counter()
        claimed = await claims.claim_runs(self.connection, claim, PLANS)
        self.took_s.append(time.perf_counter() - began_at)
        assert isinstance(claimed, list)
        assert len(claimed) == RUNS, len(claimed)
        for turn in asked.turns:
            self.ring.add(turn.tenant_id)
        self.ring.claimed(asked, claimed)

    def figures(self) -> dict[str, float]:
        """Return how long the claims took."""
        ranked = sorted(1000 * took for took in self.took_s)
        return {
            "p50_ms": round(ranked[len(ranked) // 2], 2),
            "p95_ms": round(ranked[int(len(ranked) * 0.95)], 2),
        }


async def open_side(host: str, database: str, tenants: int, each: int, spread_s: int) -> Side:
    """Make a database with the schema, and take a lease there."""
    server = await asyncpg.connect(host=host, user="postgres", database="postgres")
    await server.execute(f"create database {database} owner {roles.OWNER}")
    await server.close()
    owner = await asyncpg.connect(host=host, user=roles.OWNER, database=database)
    await migrate.up(owner)
    await owner.close()
    connection = await connect(Address({"host": host, "user": "dpp_app", "database": database}))
    side = Side(host, database, tenants, each, spread_s, connection)
    await leases.take_lease(connection, side.lease, lease_s=LEASE_S, hand_back=())
    return side


async def measure(host: str, *, queued: int, tenants: int, count: int) -> dict[str, Any]:
    """Fill, claim in turn; returns the figures."""
    await roles.make_database(host)
    long = await open_side(host, "bench_long", tenants, EACH, 600)
    empty = await open_side(host, "bench_empty", TENANTS, count * RUNS, 0)
    await long.fill(queued)
    await long.tidy()
    scan_s = await long.scan()
    for turn in range(count):
        await empty.fill(RUNS)
        if turn % 20 == 0:
            await empty.tidy()
            empty.ring = Ring(Random(7))
            await empty.scan()
        for side in (empty, long) if turn % 2 else (long, empty):
            await side.claim()
        print(f"\r{turn + 1} of {count}", end="", file=sys.stderr)
    print(file=sys.stderr)
    for side in (long, empty):
        await side.connection.close()
    of_long, of_empty = long.figures(), empty.figures()
    return {
        "queued": queued,
        "tenants": tenants,
        "claims": count,
        "long": of_long,
        "empty": of_empty,
        "ratio_p95": round(of_long["p95_ms"] / of_empty["p95_ms"], 2),
        "slowest_scan_ms": round(1000 * scan_s, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> int:
    """Measure and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--claims", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dpp-bench-") as directory:
        cluster = start_cluster(Path(directory), max_connections=20)
        try:
            figures = asyncio.run(
                measure(
                    cluster.host, queued=given.queued, tenants=given.tenants, count=given.claims
                )
            )
        finally:
            cluster.stop()
    if given.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>18}  {value}")
    return 0 if figures["ratio_p95"] <= RATIO_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
