"""The database's facts: through the node that runs an embedded one, or by the operator's URLs.

An embedded one whose node does not run is left alone: to start it would write to its files.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dpp import datadir
from dpp.database import external, sockets
from dpp.diagnosis.checks import Unknown
from dpp.sections import PRODUCTION
from dpp.store import examining, place, roles
from dpp.store.connections import Address
from dpp.store.examining import Asked, Examined

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from dpp.config import Config
    from dpp.store.bridge import Bridge


def way(
    config: Config, data_dir: Path, node: datadir.RunningNode | None, now: Callable[[], datetime]
) -> Asked | Unknown | None:
    """Return how to come to the database; None: there is none yet."""
    if not config.database.embedded:
        where = external(config)
        return _asked(config, where, where.app, now)
    if node is None:
        try:
            (data_dir / datadir.POSTGRES).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Unknown(f"{error.filename}: {error.strerror}")
        return Unknown("no node runs on this data directory, and looking must not start one")
    host = str(sockets(data_dir))
    watcher = Address({"host": host, "user": roles.SUPERUSER, "database": roles.DATABASE})
    return _asked(config, place.embedded_place(host), watcher, now)


def _asked(
    config: Config, where: place.Place, watcher: Address, now: Callable[[], datetime]
) -> Asked:
    return Asked(
        app=where.app,
        owner=where.owner,
        watcher=watcher,
        embedded=config.database.embedded,
        pooler="auto" if config.database.embedded else config.database.pooler,
        production=config.node.profile == PRODUCTION,
        allow_unsynced=config.database.allow_unsynced,
        now=now,
    )


async def gather(asked: Asked, bridge: Bridge) -> Examined:
    """Ask it; what cannot be asked is `Unknown`."""
    return await bridge.run(partial(examining.examine, asked))


def unasked(why: Unknown) -> Examined:
    """Return what is known where nobody can be asked."""
    return Examined(server=why, clock=why, upkeep=why, schema=why, living=why, plans=why)
