"""Plans that are kept for a second: what small batches of submits and endings run by.

Kept any longer they could be plans of empty tables when there are a hundred thousand runs, which is
tried too. Made afresh they go by keys, whatever the statistics say.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest

from dpp.store import roles
from dpp.store.connections import Address, connect
from dpp.store.poolers import Pooler
from dpp.store.queries import queries
from dpp.store.transactions import (
    BEGIN,
    BEGIN_AFRESH,
    BEGIN_KEPT,
    KEEP_S,
    KEPT_MAX,
    begin_for,
    transaction,
)
from tests.conftest import TEMPLATE, Database
from tests.store.conftest import execute
from tests.store.sessions import Session, Sessions, open_sessions
from tests.store.test_plans import (
    ALL_AT_WORK,
    ALL_QUEUED_AGAIN,
    BIG,
    ENDED,
    LAST_ENDED,
    LEASE,
    QUEUED,
    ROWS,
    STILL,
    TENANTS,
    completions,
    nodes,
    of,
    run,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpp.store.bridge import Bridge
    from dpp.store.connections import Connection
    from tests.cluster import Cluster

MANY = KEPT_MAX
WORKING = [run(ENDED + QUEUED + n) for n in range(MANY)]
PLENTY = "update budgets set deposited = deposited + 1000, available = available + 1000;"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
BUDGETS = {"tenant_ids": TENANTS}
RUNS = {"run_ids": WORKING}

# What the transactions that begin so ask for; rows that it returns; pages that it may touch.
CASES: list[tuple[str, dict[str, Any], int, int]] = [
    ("lock_budgets", BUDGETS, 20, 80),
    ("lock_budgets_free", BUDGETS, 20, 80),
    (
        "read_books",
        {
            "tenant_ids": [of(n) for n in range(MANY)],
            "idempotency_keys": [f"order-{n}" for n in range(MANY)],
            "key_ids": [f"key{n}" for n in range(20)],
            "plans": ["basic", "unlimited"],
            "queued_maxes": [10, 100],
            "notified_ids": TENANTS,
        },
        20,
        3_000,
    ),
    (
        "write_submissions",
        {
            "run_ids": [UUID(int=n + 1) for n in range(MANY)],
            "tenant_ids": [of(n) for n in range(MANY)],
            "seqs": [900_000 + n for n in range(MANY)],
            "max_costs": [1] * MANY,
            "minimum_fees": [0] * MANY,
            "timeboxes_s": [60] * MANY,
            "priorities": [5] * MANY,
            "pack_types": ["echo"] * MANY,
            "pack_versions": ["1"] * MANY,
            "policies": ["0/0/0"] * MANY,
            "key_ids": [f"key{n % 20}" for n in range(MANY)],
            "trace_ids": ["t"] * MANY,
            "idempotency_keys": [f"new-{n}" for n in range(MANY)],
            "fingerprints": [b"f"] * MANY,
            "inputs": [b"{}"] * MANY,
            "available_ats": [NOW] * MANY,
            "expires_ats": [NOW.replace(year=2027)] * MANY,
            "result_days": [30] * MANY,
            "budget_days": [date(2026, 11, 1)] * MANY,
            "allowance_ids": [f"key{n % 20}" for n in range(MANY)],
            "metadatas": [None] * MANY,
            "webhook_urls": [None] * MANY,
            "now": NOW,
            "window_s": 60,
        },
        1,
        8_000,
    ),
    ("lock_runs", RUNS, MANY, 500),
    ("lock_runs_free", RUNS, MANY, 500),
    ("seen_runs", RUNS, MANY, 500),
    ("ending_of", {"run_ids": [run(n) for n in LAST_ENDED[:MANY]]}, MANY, 500),
    (
        "requeue_runs",
        {
            "run_ids": [run(ENDED + QUEUED + MANY + n) for n in range(MANY)],
            "lease_ids": [LEASE] * MANY,
            "lease_epochs": [1] * MANY,
            "spents": [1] * MANY,
        },
        MANY,
        3_000,
    ),
    (
        "write_endings",
        completions(WORKING),
        1,
        6_000,
    ),
]


@pytest.fixture
async def empty(cluster: Cluster, bridge: Bridge) -> AsyncIterator[Database]:
    """Give a database of its own that was analysed while it was empty."""
    name = "dpp_kept_plans"
    make = f"create database {name} template {TEMPLATE} owner {roles.OWNER}"
    await bridge.run(lambda: execute(cluster, "postgres", make))
    await bridge.run(lambda: execute(cluster, name, STILL))
    yield Database(cluster.host, name, cluster.host)
    await bridge.run(lambda: execute(cluster, "postgres", f"drop database {name} with (force)"))


async def keep(session: Session) -> dict[str, str]:
    """Prepare every query and let its plan be made; return how each is asked for again."""
    asked = {}
    await session.execute(BEGIN_KEPT)
    for name, values, _, _ in CASES:
        query = getattr(queries, name)
        assert set(values) == set(query.parameters), query.parameters
        await session.execute(f"prepare {name} as {query.sql}")
        types = await session.fetchval(
            "select parameter_types::text[] from pg_prepared_statements where name = $1", name
        )
        literals = [
            await session.fetchval(f"select format('%L::{kind}', $1::{kind})", values[one])
            for one, kind in zip(query.parameters, types, strict=True)
        ]
        asked[name] = f"{name}({', '.join(literals)})"
        await session.execute(f"explain execute {asked[name]}")
    await session.execute("commit")
    return asked


async def test_a_plan_that_is_kept_is_afresh_by_keys_and_would_not_be_for_ever(
    cluster: Cluster, bridge: Bridge, empty: Database
) -> None:
    async def as_owner(statement: str) -> None:
        await bridge.run(lambda: execute(cluster, empty.name, statement))

    async with open_sessions(bridge, empty) as sessions:
        session = await sessions.open("dpp_app")
        asked = await keep(session)
        await as_owner(ROWS + PLENTY)

        kept = await explained(session, BEGIN_KEPT, "read_books", asked)
        assert whole(kept)  # a plan of when nothing was there
        await judge(session, BEGIN_AFRESH, asked)
        await judge(session, BEGIN_KEPT, asked)
        for statement in ("analyze", ALL_AT_WORK, "analyze", ALL_QUEUED_AGAIN):
            await as_owner(statement)
        await judge(session, BEGIN_AFRESH, asked)


async def judge(session: Session, begin: str, asked: dict[str, str]) -> None:
    """Assert that each touches no more than what it needs."""
    for name, _, rows, blocks in CASES:
        root = await explained(session, begin, name, asked)
        touched = root["Shared Hit Blocks"] + root["Shared Read Blocks"]
        assert (name, int(root["Actual Rows"]), whole(root)) == (name, rows, set())
        assert touched <= blocks, (name, touched)


async def test_plans_are_kept_for_a_second_and_by_small_batches_alone(
    sessions: Sessions,
) -> None:
    async def begins(connection: Connection) -> list[str]:
        async def begin(items: int) -> str:
            chosen = begin_for(connection, items)
            async with transaction(connection, begin=chosen):
                return chosen

        said = [await begin(items) for items in (1, 1, KEPT_MAX, KEPT_MAX + 1, 1)]
        connection.planned_at -= KEEP_S
        said += [await begin(1), await begin(1)]
        connection.planned_at -= KEEP_S
        connection.small_at -= KEEP_S
        return [*said, await begin(1)]

    said = await (await sessions.open()).run(begins)

    alone, busy = [BEGIN, BEGIN_AFRESH, BEGIN_KEPT, BEGIN, BEGIN_KEPT], [BEGIN_AFRESH, BEGIN_KEPT]
    assert said == [*alone, *busy, BEGIN]


async def test_a_plan_counts_as_made_once_the_server_has_forgotten_the_old_one(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begins(connection: Connection) -> str:
        begin_for(connection, 1)
        with monkeypatch.context() as patch:
            patch.setattr(connection, "execute", lost)
            with pytest.raises(asyncpg.InterfaceError):
                async with transaction(connection, begin=begin_for(connection, 1)):
                    pass
        return begin_for(connection, 1)

    assert await (await sessions.open()).run(begins) == BEGIN_AFRESH


async def lost(_: str) -> str:
    raise asyncpg.InterfaceError("the connection is lost")


async def test_behind_a_pooler_that_lends_by_transaction_no_plan_is_kept(
    bridge: Bridge, database: Database
) -> None:
    where = {"host": database.host, "user": "dpp_app", "database": database.name}

    async def begins(pooler: Pooler) -> list[str]:
        connection = await connect(Address(where, pooler))
        said = [begin_for(connection, 1) for _ in range(2)]
        await connection.close()
        return said

    assert await bridge.run(lambda: begins(Pooler.TRANSACTION)) == [BEGIN, BEGIN]
    assert await bridge.run(lambda: begins(Pooler.SESSION)) == [BEGIN, BEGIN_AFRESH]


async def explained(
    session: Session, begin: str, name: str, asked: dict[str, str]
) -> dict[str, Any]:
    """Run what was prepared, take it back, and return the root of its plan."""
    how = "analyze, buffers, costs off, timing off, format json"
    await session.execute(begin)
    (plan,) = json.loads(await session.fetchval(f"explain ({how}) execute {asked[name]}"))
    await session.execute("rollback")
    root: dict[str, Any] = plan["Plan"]
    return root


def whole(root: dict[str, Any]) -> set[str]:
    """Return the big tables that a plan read whole, or by an index from end to end."""
    return {
        node["Relation Name"]
        for node in nodes(root)
        if node["Node Type"] in {"Seq Scan", "Index Scan", "Index Only Scan"}
        and not ({"Index Cond", "Order By"} & node.keys())
    } & BIG
