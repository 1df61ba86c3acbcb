"""The node's database: the embedded server and its schema, or an external one that must be known.

`open_store` is what a node works on; `migrate_database` is behind `dpp migrate`, with a
running node or without one.
"""

from __future__ import annotations

import os
import uuid
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from dpp import accounts, datadir
from dpp.admission import Terms
from dpp.datadir import DataDir
from dpp.logs import get_logger
from dpp.store import cluster, migrate, place
from dpp.store.bridge import Bridge, open_bridge
from dpp.store.desk import Sizes
from dpp.store.embedded import embedded
from dpp.store.postgres import PostgresStore, open_postgres
from dpp.store.verbs import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from dpp.config import Config
    from dpp.store.place import Place

# Of the embedded server, beside the pools: audits, migrations, an operator's psql, and the three
# that PostgreSQL keeps for a superuser.
SPARE_CONNECTIONS = 12

log = get_logger(__name__)


@asynccontextmanager
async def open_store(
    config: Config, held: DataDir, bridge: Bridge, *, fresh: bool
) -> AsyncIterator[PostgresStore]:
    """Give the store of a node; PostgreSQL, where embedded, is stopped after all that uses it.

    `fresh`: a demo's, made anew. Raises `SchemaRefused`, `DataDirError`.
    """
    terms = Terms(
        queue_ttl_s=config.runs.queue_ttl_s, result_days=config.runs.result_retention_days
    )
    limits = Limits(attempts_max=config.runs.attempts_max, terms=terms)
    sizes = Sizes.of(config.database.pool_size)
    async with open_place(config, held, bridge, fresh=fresh) as where:
        if not config.database.embedded:
            await bridge.run(partial(place.assert_known, where))
        elif applied := await bridge.run(partial(place.as_owner, where, migrate.up)):
            log.info("schema migrated", applied=applied)
        async with open_postgres(bridge, where.app, where.audit, sizes, limits) as store:
            store.plans = config.plans
            yield store


@asynccontextmanager
async def open_place(
    config: Config, held: DataDir, bridge: Bridge, *, fresh: bool = False
) -> AsyncIterator[Place]:
    """Say where the database is; runs the embedded one meanwhile, its schema as it was."""
    if not config.database.embedded:
        yield await external(config, bridge)
        return
    async with trio.open_nursery() as nursery:
        serve = partial(
            embedded,
            held,
            ping=lambda dsn: bridge.run(partial(place.ping, dsn)),
            max_connections=config.database.pool_size + SPARE_CONNECTIONS,
            logger=get_logger("postgres"),
            fresh=fresh,
        )
        endpoint = await nursery.start(serve)
        yield await bridge.run(partial(place.prepare_embedded, endpoint.host))
        nursery.cancel_scope.cancel(reason="nothing uses PostgreSQL any more")


async def external(config: Config, bridge: Bridge) -> Place:
    """Return where the operator's URLs lead; statements are kept where no pooler stands between."""
    url, pooler = config.database.url, config.database.pooler
    direct = await bridge.run(partial(place.keeps_session, url))
    prepared = direct if pooler == "auto" else pooler != "transaction"
    return place.external_place(url, config.database.migrations_url, prepared=prepared)


async def migrate_database(
    config: Config, action: str, *, data_dir: Path, **more: Any
) -> dict[str, Any]:
    """Do one of `up`, `down`, `status`, `check`, and return what `dpp migrate` prints.

    An embedded database is asked through the node that runs it, or started for the length of this.
    """
    async with open_bridge() as bridge, reach(config, bridge, data_dir) as where:
        act = partial(ACTIONS[action], where, **more)
        return await bridge.run(act)


@asynccontextmanager
async def reach(config: Config, bridge: Bridge, data_dir: Path) -> AsyncIterator[Place]:
    """Say where the database is, for a command beside the node or without one."""
    if not config.database.embedded:
        yield await external(config, bridge)
    elif datadir.running(data_dir) is not None:
        yield place.embedded_place(str(sockets(data_dir)))
    else:
        with datadir.hold(data_dir) as held:
            async with open_place(config, held, bridge) as where:
                yield where


def sockets(data_dir: Path) -> Path:
    """Return the socket directory of the node that runs on this data directory."""
    node = accounts.by_uid(os.geteuid())
    assert node is not None
    return cluster.socket_directory(DataDir(data_dir, node, node, uuid.UUID(int=0)), os.environ)


async def up(where: Place) -> dict[str, Any]:
    """Apply what is missing."""
    return {"applied": await place.as_owner(where, migrate.up)}


async def down(where: Place, count: int = 1) -> dict[str, Any]:
    """Take back the last migrations."""
    return {"taken_back": await place.as_owner(where, partial(migrate.down, count=count))}


async def status(where: Place) -> dict[str, Any]:
    """Say which migrations are applied, and how the schema stands to this release."""
    found = await place.as_owner(where, migrate.status)
    state = await place.as_owner(where, migrate.known)
    rows = [{"name": name, "applied": applied} for name, applied in found]
    return {"state": place.described(state), "migrations": rows}


async def check(where: Place) -> dict[str, Any]:
    """Compare the live catalog with what the migrations make."""
    differences = await place.as_owner(where, migrate.check)
    return {"ok": not differences, "differences": differences}


ACTIONS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "up": up,
    "down": down,
    "status": status,
    "check": check,
}
