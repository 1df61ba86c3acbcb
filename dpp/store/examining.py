"""The facts about PostgreSQL that `dpp.diagnosis` judges: each found by asking, and none changed.

Every question has a connection of its own and an end, `WALL_S`. What could not be asked is
`Unknown`, and nothing is raised for it. Runs in the bridge's thread.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
from attrs import frozen

from dpp.diagnosis.checks import Unknown
from dpp.diagnosis.fleet import Living, Schema
from dpp.diagnosis.machine import Clock
from dpp.diagnosis.server import Refusal, Rights, Server
from dpp.diagnosis.upkeep import Prepared, Slot, Table, Transaction, Upkeep
from dpp.faults import told
from dpp.neighbours import Neighbour, Offer
from dpp.resources import sql_dir
from dpp.store import migrate, place, server, storing
from dpp.store.connections import CONNECT_S
from dpp.store.migrate import Ahead, Behind
from dpp.store.poolers import find_pooler
from dpp.store.queries import queries
from dpp.store.refusal import StartRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from dpp.blobs import Attempt, Pointer
    from dpp.store.connections import Address

T = TypeVar("T")

WALL_S = 20.0  # of a question: beyond every limit of the role that asks
ROWS_MAX = 50  # of a kind, the oldest first: more tell an operator nothing new
TABLE_RIGHTS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
# What the driver raises where it does not get through, or is told no.
SILENT = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


@frozen(kw_only=True)
class Asked:
    """How to come to the server: as the node, as who migrates, and as who may see all sessions."""

    app: Address
    owner: Address
    watcher: Address
    embedded: bool
    pooler: str  # the setting
    production: bool
    allow_unsynced: bool
    now: Callable[[], datetime]  # this machine's clock
    migrations: Path | None = None  # None: those of this release


@frozen(kw_only=True)
class Examined:
    """All that was found."""

    server: Server | Refusal | Unknown
    clock: Clock | Unknown | None
    upkeep: Upkeep | Unknown
    schema: Schema | Unknown
    living: Sequence[Living] | Unknown
    plans: Mapping[str, int] | Unknown  # that tenants have, and how many do


async def examine(asked: Asked) -> Examined:
    """Ask everything; an external server that does not answer is asked once."""
    found = await _found(asked)
    if not isinstance(found, Server):
        silent: Refusal | Unknown = found
        if isinstance(found, Unknown) and not asked.embedded:
            fix = "Start it, or correct database.url and the role and password that it names."
            silent = Refusal(what=found.why, fix=fix)
        none = Unknown("the database does not answer")
        return Examined(
            server=silent, clock=none, upkeep=none, schema=none, living=none, plans=none
        )
    return Examined(
        server=found,
        clock=None if asked.embedded else await seen(partial(_clock, asked)),
        upkeep=await seen(partial(on, asked.watcher, upkeep)),
        schema=await seen(partial(on, asked.owner, partial(schema, directory=asked.migrations))),
        living=await seen(partial(on, asked.app, living)),
        plans=await seen(partial(on, asked.app, plans)),
    )


async def _found(asked: Asked) -> Server | Refusal | Unknown:
    """Look at the server; what is refused before it is asked is what was found."""
    try:
        return await seen(partial(_server, asked))
    except StartRefused as refused:
        return Refusal(what=refused.what, fix=refused.remedy)


async def seen(question: Callable[[], Awaitable[T]]) -> T | Unknown:
    """Ask; what the driver raises is why it could not be found out."""
    try:
        return await question()
    except SILENT as error:
        return Unknown(told(error))


async def on(address: Address, action: Callable[[Any], Awaitable[T]]) -> T:
    """Do something on a connection of its own; past `WALL_S` it is cut."""
    async with _connected(address) as connection:
        return await action(connection)


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[Any]:
    connect = partial(
        asyncpg.connect, **address.keywords, timeout=CONNECT_S, statement_cache_size=0
    )
    try:
        connection = await connect(target_session_attrs="primary")
    except asyncpg.TargetServerAttributeNotMatched:  # a standby has its answers, too
        connection = await connect()
    alarm = asyncio.get_running_loop().call_later(WALL_S, connection.terminate)
    try:
        yield connection
    finally:
        alarm.cancel()
        connection.terminate()


# ── the server ───────────────────────────────────────────────────────────────────────────────────


async def _server(asked: Asked) -> Server:
    pooler = await find_pooler(asked.app.keywords)
    async with _connected(asked.app) as connection:
        said = await server.describe(connection)
        (moment,) = await queries.server_moment.fetch(connection)
        powers = await seen(partial(rights, connection))
    refusals = server.refusals(
        said, is_production=asked.production, allow_unsynced=asked.allow_unsynced
    )
    return Server(
        asked_pooler=asked.pooler,
        pooler=str(pooler),
        version=said.version,
        standby=moment["standby"],
        has_transaction_timeout=said.transaction_timeout_ms is not None,
        refusals=[Refusal(what=one.what, fix=one.remedy) for one in refusals],
        unsynced=said.unsynced,
        unlimited=said.unlimited,
        rights=powers,
    )


async def _clock(asked: Asked) -> Clock:
    async with _connected(asked.app) as connection:
        await queries.server_moment.fetch(connection)  # the statement is parsed by now
        before = asked.now()
        (moment,) = await queries.server_moment.fetch(connection)
        took_s = (asked.now() - before).total_seconds()
    ahead_s = (before - moment["at"]).total_seconds() + took_s / 2
    return Clock(ahead_s, abs(took_s) / 2)


async def rights(connection: Any) -> Rights:  # noqa: ANN401 - the driver's connection
    """Return what the role that asks may, beside what dpp_app is given by the migrations."""
    wanted = sorted(_rights_of_a_node())
    (row,) = await queries.role_powers.fetch(
        connection,
        relations=[name for name, _ in wanted],
        privileges=[right for _, right in wanted],
    )
    return Rights(**row)


def _rights_of_a_node() -> set[tuple[str, str]]:
    """Read the rights on whole tables out of the catalog that the migrations make."""
    lines = (sql_dir() / "catalog.txt").read_text("utf-8").splitlines()
    words = [line.split() for line in lines if line.startswith("grant ")]
    return {
        (grant[4], grant[1])
        for grant in words
        if grant[2:4] == ["on", "relation"] and grant[-1] == "dpp_app" and grant[1] in TABLE_RIGHTS
    }


# ── what goes on there ───────────────────────────────────────────────────────────────────────────


async def upkeep(connection: Any) -> Upkeep:  # noqa: ANN401 - the driver's connection
    """Return what is open, prepared, held back and not tidied up."""
    clients = await queries.open_transactions.fetch(connection, limit=ROWS_MAX)
    prepared = await queries.prepared_transactions.fetch(connection, limit=ROWS_MAX)
    slots = await queries.replication_slots.fetch(connection)
    tables = await queries.table_health.fetch(connection)
    (state,) = await queries.vacuum_state.fetch(connection)
    return Upkeep(
        transactions=[_transaction(row) for row in clients if row["pid"] is not None],
        hidden=clients[0]["hidden"],
        prepared=[Prepared(row["gid"], row["owner"], row["age_s"]) for row in prepared],
        slots=[Slot(**row) for row in slots],
        tables=[Table(**row) for row in tables],
        autovacuum=state["autovacuum"],
        age=state["age"],
    )


def _transaction(row: Any) -> Transaction:  # noqa: ANN401 - the driver's row
    return Transaction(
        pid=row["pid"],
        user=row["usename"] or "",
        program=row["application_name"] or "",
        state=row["state"] or "open",
        open_s=row["open_s"],
        idle_s=row["idle_s"] or 0.0,
    )


async def schema(connection: Any, *, directory: Path | None = None) -> Schema:  # noqa: ANN401 - as above
    """Return how the schema stands to this release, and what differs from what it makes."""
    state = await migrate.known(connection, directory=directory)
    if isinstance(state, Behind | Ahead):
        names = state.missing if isinstance(state, Behind) else state.unknown
        return Schema(place.described(state), names, (), (), ())
    rows = await migrate.status(connection, directory=directory)
    pending = [name for name, applied in rows if not applied and name.endswith(migrate.POST)]
    waits = await migrate.waiting(connection, directory=directory) if pending else None
    return Schema(
        place.described(state),
        (),
        pending,
        () if waits is None else waits.nodes,
        await migrate.check(connection) if not pending else (),
    )


async def living(connection: Any) -> list[Living]:  # noqa: ANN401 - the driver's connection
    """Return the nodes that live, with what they offer and the version that they told."""
    return [
        Living(Neighbour(row["node_id"], Offer.parse(row["digest"])), row["version"])
        for row in await queries.living_versions.fetch(connection)
    ]


async def plans(connection: Any) -> dict[str, int]:  # noqa: ANN401 - the driver's connection
    """Return the plans that tenants have, and how many have each."""
    return {row["plan"]: row["tenants"] for row in await queries.plans_in_use.fetch(connection)}


# ── results ──────────────────────────────────────────────────────────────────────────────────────


async def store_id(address: Address, name: str) -> UUID | None:
    """Return the id of the store that the database knows; None before its first use."""
    return await on(address, partial(storing.store_id, name=name))


async def kept(address: Address, attempts: Sequence[Attempt]) -> frozenset[Attempt]:
    """Return those whose objects a run still needs."""
    return await on(address, partial(storing.kept_objects, attempts=attempts))


async def pointers(address: Address, limit: int) -> list[Pointer]:
    """Return where some large results must lie."""
    return await on(address, partial(storing.sample, limit=limit))
