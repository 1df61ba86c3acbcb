"""What is read to be shown: a few statements, each bounded and of its own moment."""

import json
from collections.abc import Mapping, Sequence

from dpp.gauges import Gauges, Health
from dpp.money import Micros
from dpp.store.connections import Connection
from dpp.store.queries import queries

# Of each status. An alert reads a thousand; beyond ten thousand nobody needs the last digit, and
# counting a million took 160 ms where this takes 3.
COUNTED_MAX = 10_000
PAGES = 500  # some 20,000 runs: 6 ms, and a few per cent off
HEARD_S = 86_400.0  # who is silent for longer is no news
NODES_MAX = 200  # each is a series on every node


async def read_gauges(connection: Connection, tenant_ids: Sequence[str]) -> Gauges:
    """Read all of it."""
    age = await queries.queue_age.fetch_one(connection)
    nodes = await queries.last_heartbeats.fetch(connection, within_s=HEARD_S, limit=NODES_MAX)
    balances = await queries.balances.fetch(connection, tenant_ids=list(tenant_ids))
    return Gauges(
        runs=await count_runs(connection),
        queue_age_s=0.0 if age is None else age["age_s"],
        heartbeats={row["node_id"]: row["heard_at"] for row in nodes},
        balances={row["tenant_id"]: Micros(row["available"]) for row in balances},
        health=await read_health(connection),
    )


async def count_runs(connection: Connection) -> Mapping[tuple[str, str], int]:
    """Count live runs by status and pack; past `COUNTED_MAX` of a status, about."""
    rows = await queries.count_live_runs.fetch(connection, counted_max=COUNTED_MAX + 1)
    counted = {(row["status"], row["pack_type"]): int(row["runs"]) for row in rows}
    longest = max((total_of(counted, status) for status, _ in counted), default=0)
    if longest <= COUNTED_MAX:
        return counted
    drawn = await queries.sample_live_runs.fetch(connection, pages=PAGES)
    about = {(row["status"], row["pack_type"]): int(row["runs"]) for row in drawn}
    # What was counted to its end stays; what was not is at least what was seen of it.
    return {
        key: max(counted.get(key, 0), about.get(key, 0))
        if total_of(counted, key[0]) > COUNTED_MAX
        else counted.get(key, 0)
        for key in counted.keys() | about.keys()
    }


def total_of(counted: Mapping[tuple[str, str], int], status: str) -> int:
    """Return how many of one status were counted."""
    return sum(runs for (one, _), runs in counted.items() if one == status)


async def read_health(connection: Connection) -> Health:
    """Ask the server how it is."""
    row = await queries.server_health.fetch_one(connection)
    assert row is not None
    return Health(
        dead_rows=json.loads(row["dead_rows"] or "{}"),
        oldest_xmin_age=row["oldest_xmin_age"],
        transactions=row["transactions"],
        frozen_xid_age=row["frozen_xid_age"],
        waits_for_standby=row["waits_for_standby"],
    )
