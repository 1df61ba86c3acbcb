"""The node's database: the embedded server and its schema, or an external one that must be known.

`open_store` is what a node works on; `migrate_database` is behind `dpp migrate`, with a
running node or without one.
"""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from attrs import asdict

from dpp import accounts, datadir
from dpp.admission import Terms
from dpp.datadir import DataDir
from dpp.logs import get_logger
from dpp.retention import Keeping
from dpp.sections import PRODUCTION
from dpp.store import cluster, identity, migrate, place, provisioning, server
from dpp.store.bridge import Bridge, open_bridge
from dpp.store.desk import Sizes
from dpp.store.embedded import embedded
from dpp.store.poolers import Pooler, find_pooler
from dpp.store.postgres import PostgresStore, open_postgres
from dpp.store.programs import wheel_programs
from dpp.store.verbs import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from pathlib import Path

    from dpp.config import Config
    from dpp.store.place import Place

# Of the embedded server, beside the pools: audits, migrations, an operator's psql, and the three
# that PostgreSQL keeps for a superuser.
SPARE_CONNECTIONS = 12
QUEUE_POOL = "queuepool"  # the other keeps no connection beyond its transaction

log = get_logger(__name__)


@asynccontextmanager
async def open_store(
    config: Config, held: DataDir, bridge: Bridge, *, fresh: bool
) -> AsyncIterator[PostgresStore]:
    """Give the store of a node; PostgreSQL, where embedded, is stopped after all that uses it.

    `fresh`: a demo's, made anew. Raises `SchemaRefused`, `DataDirError`.
    """
    limits = limits_of(config)
    sizes = Sizes.of(
        config.database.pool_size,
        config.database.max_overflow,
        kept=config.database.pool == QUEUE_POOL,
    )
    async with open_place(config, held, bridge, fresh=fresh) as where:
        if not config.database.embedded:
            await bridge.run(partial(examine, config, where))
        elif applied := await bridge.run(partial(place.as_owner, where, migrate.up)):
            log.info("schema migrated", applied=applied)
        async with open_postgres(bridge, where.app, where.audit, sizes, limits) as store:
            store.plans = config.plans
            yield store


def limits_of(config: Config) -> Limits:
    """Return the numbers that the store decides by."""
    return Limits(
        attempts_max=config.runs.attempts_max,
        terms=Terms(
            queue_ttl_s=config.runs.queue_ttl_s, result_days=config.runs.result_retention_days
        ),
        keeping=Keeping(
            runs=config.runs.run_retention_days,
            keys=config.runs.key_retention_days,
            transfers=config.runs.transfer_retention_days,
        ),
    )


@asynccontextmanager
async def open_place(
    config: Config, held: DataDir, bridge: Bridge, *, fresh: bool = False
) -> AsyncIterator[Place]:
    """Say where the database is; runs the embedded one meanwhile, its schema as it was."""
    if not config.database.embedded:
        yield await bridge.run(partial(find, config))
        return
    async with trio.open_nursery() as nursery:
        serve = partial(
            embedded,
            held,
            ping=lambda dsn: bridge.run(partial(place.ping, dsn)),
            max_connections=config.database.pool_size
            + config.database.max_overflow
            + SPARE_CONNECTIONS,
            logger=get_logger("postgres"),
            fresh=fresh,
        )
        endpoint = await nursery.start(serve)
        yield await bridge.run(partial(place.prepare_embedded, endpoint.host))
        nursery.cancel_scope.cancel(reason="nothing uses PostgreSQL any more")


def external(config: Config, pooler: Pooler = Pooler.NONE) -> Place:
    """Return where the operator's URLs lead, and through what."""
    return place.external_place(config.database.url, config.database.migrations_url, pooler)


async def find(config: Config) -> Place:
    """Find out what stands before the operator's database; refuse a setting that says otherwise."""
    found = await find_pooler({"dsn": config.database.url})
    return external(config, server.judged_pooler(config.database.pooler, found))


async def examine(config: Config, where: Place) -> None:
    """Refuse a server or a schema that a node cannot work on; say in the log what was found."""
    found = await place.over(where.app, server.describe)
    server.assert_fit(
        found,
        is_production=config.node.profile == PRODUCTION,
        allow_unsynced=config.database.allow_unsynced,
    )
    server.tell(found, where.app.pooler)
    await place.assert_known(where)


async def migrate_database(
    config: Config, action: str, *, data_dir: Path, **more: Any
) -> dict[str, Any]:
    """Do one of `ACTIONS`, and return what the command prints.

    An embedded database is asked through the node that runs it, or started for the length of this.
    """
    async with open_bridge() as bridge, reach(config, bridge, data_dir) as where:
        act = partial(ACTIONS[action], where, **more)
        return await bridge.run(act)


async def run_beside(
    config: Config, data_dir: Path, command: Sequence[str], role: str, *, stdout: int | None
) -> int:
    """Run a command that finds the embedded database by its environment; returns its status.

    `stdout`: where the command's own goes; None = ours. A SIGINT is the command's affair.
    """
    async with open_bridge() as bridge, reach(config, bridge, data_dir) as where:
        there = where.owner.keywords
        programs = str(wheel_programs().bin)
        env = {
            **os.environ,
            "PATH": os.pathsep.join((programs, os.environ.get("PATH", os.defpath))),
            "PGHOST": str(there["host"]),
            "PGDATABASE": str(there["database"]),
            "PGUSER": role,
            "PGOPTIONS": f"--search_path={migrate.SCHEMA}",
        }
        with trio.open_signal_receiver(signal.SIGINT):
            ended = await trio.run_process(
                [*command], env=env, check=False, stdin=None, stdout=stdout
            )
    return ended.returncode


@asynccontextmanager
async def reach(config: Config, bridge: Bridge, data_dir: Path) -> AsyncIterator[Place]:
    """Say where the database is, for a command beside the node or without one."""
    if not config.database.embedded:
        yield external(config)
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
    return cluster.socket_directory(data_dir, node.uid, os.environ)


async def up(where: Place) -> dict[str, Any]:
    """Apply what is missing, and say what waits for nodes of other versions."""
    await place.assert_keeps_session(where.owner)
    applied = await place.as_owner(where, migrate.up)
    waits = await place.as_owner(where, migrate.waiting)
    return {"applied": applied, "waiting": [*waits.migrations], "nodes": [*waits.nodes]}


async def provide_roles(config: Config, admin_url: str) -> dict[str, Any]:
    """Make roles and rights on the operator's server, as the role of this URL."""
    asked = partial(
        provisioning.provide, admin_url, config.database.url, config.database.migrations_url
    )
    async with open_bridge() as bridge:
        return provisioning.document(await bridge.run(asked))


async def down(where: Place, count: int = 1, to: str | None = None) -> dict[str, Any]:
    """Take back the last migrations, or all that came after `to`."""
    await place.assert_keeps_session(where.owner)
    back = partial(migrate.down, count=count, to=to)
    return {"taken_back": await place.as_owner(where, back)}


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


async def forget_results(where: Place) -> dict[str, Any]:
    """Let the database forget its store of results, if nothing lies there."""
    found = await place.as_owner(where, identity.forget)
    gone = found.store_id and str(found.store_id)
    return {**asdict(found), "store_id": gone, "done": found.done}


ACTIONS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
    "up": up,
    "down": down,
    "status": status,
    "check": check,
    "forget_results": forget_results,
}
