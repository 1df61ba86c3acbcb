"""All of `dpp doctor`: facts and verdicts, in the order in which they should be mended."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from dpp import cloud, datadir
from dpp.diagnosis import fleet, redis, results, server, upkeep
from dpp.diagnosis import machine as machines
from dpp.diagnosis import settings as configured
from dpp.diagnosis.checks import Unknown, unseen, well
from dpp.doctor import database, machine, settings
from dpp.doctor import results as objects
from dpp.sections import PRODUCTION
from dpp.store import redis_facts
from dpp.store.bridge import open_bridge
from dpp.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dpp.config import Config
    from dpp.datadir import RunningNode
    from dpp.diagnosis.checks import Check
    from dpp.store.bridge import Bridge


async def examine(config: Config, data_dir: Path, file: Path | None) -> list[Check]:
    """Look at everything, and change nothing. `file`: the configuration that was read."""
    node = running(data_dir)
    checks = [
        *configured.diagnose(settings.gather(config, file, node)),
        *_machine(config, data_dir, node),
    ]
    async with open_bridge() as bridge:
        checks += await _database(config, data_dir, node, bridge)
        asked = config.redis.url
        told = None if asked is None else await bridge.run(partial(redis_facts.gather, asked))
        checks.append(redis.diagnose(told))
    return [*checks, *await cloud.examine(config)]


def running(data_dir: Path) -> RunningNode | None:
    """Return the node that runs there, as far as this user may look."""
    try:
        return datadir.running(data_dir)
    except PermissionError:
        return None


def now() -> datetime:
    """Return the time by this machine's clock, which is what is judged."""
    return datetime.now(UTC)  # noqa: TID251 - it is compared with the database's, and with files'


def _machine(config: Config, data_dir: Path, node: RunningNode | None) -> Iterator[Check]:
    production, embedded = config.node.profile == PRODUCTION, config.database.embedded
    yield machines.certificates(machine.expiries(settings.certificates(config), now()))
    yield machines.synchronised(kept=machine.synchronised(), production=production)
    in_directory = config.s3.bucket is None
    yield from machines.room(machine.rooms(data_dir, embedded=embedded, results=in_directory))
    yield machines.descriptors(machine.limits(config.http.connections_max, node))
    yield from machines.home(machine.home(data_dir, node))
    yield fleet.files(machine.database_files(data_dir) if embedded else None)


def _is_there(directory: Path) -> bool:
    return directory.exists()


async def _database(
    config: Config, data_dir: Path, node: RunningNode | None, bridge: Bridge
) -> list[Check]:
    asked = database.way(config, data_dir, node, now)
    if asked is None and not _is_there(data_dir):
        fix = "Name the node's by --data-dir: under systemd it is /var/lib/dpp."
        return [unseen("database", f"{data_dir} does not exist", fix)]  # noqa: ASYNC910 - nothing to ask
    if asked is None:
        return [well("database", "none yet: the first start makes it")]  # noqa: ASYNC910 - nothing to ask
    if isinstance(asked, Unknown):
        found = database.unasked(asked)
    else:
        found = await database.gather(asked, bridge)
    production = config.node.profile == PRODUCTION
    checks = [
        *server.diagnose(found.server, production=production),
        machines.clock(found.clock),
        *fleet.schema(found.schema),
        *fleet.nodes(found.living, ours=VERSION),
        fleet.plans_in_use(found.plans, config.plans),
        *upkeep.diagnose(found.upkeep),
    ]
    if isinstance(asked, Unknown) or not isinstance(found.server, server.Server):
        silent = Unknown("the database does not answer")
        return [*checks, *results.diagnose(silent, silent)]  # noqa: ASYNC910 - nobody to ask
    directory = data_dir / datadir.BLOBS
    looked = await objects.gather(config, directory, asked.app, bridge, now())
    return [*checks, *results.diagnose(*looked)]
