"""Who watches a node: systemd, by a watchdog of real checks, and the metrics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dpp import metrics, turns
from dpp.actors.gauges import READ_S, Asked
from dpp.actors.mailbox import Mailbox
from dpp.actors.supervisor import Stopping
from dpp.actors.watchdog import watchdog
from dpp.node.house import House
from dpp.node.loops import patience
from dpp.systemd.notify import Manager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dpp.config import Config
    from dpp.store.bridge import Bridge

WATCHDOG_S = 30.0  # between two limits where systemd waits for a start, and has set none


async def keep_watch(config: Config, bridge: Bridge, stopping: Stopping, manager: Manager) -> None:
    """Tell systemd that the node is alive, from the start to the end of the drain."""

    def quiet() -> Mapping[str, float]:
        return {} if stopping.draining.is_set() else turns.quiet()  # in the drain, loops end

    await watchdog(
        bridge.knock,
        quiet,
        patience(config),
        manager.alive,
        stopping.after,
        period_s=manager.watchdog_s or WATCHDOG_S,
    )


def watch_mailboxes(house: House) -> None:
    """Let metrics show how much waits for intake and settler."""
    for actor, lanes in (("intake", house.submissions), ("settler", house.settlements)):
        boxes = lanes.mailboxes
        depth = partial(depth_of, boxes)
        metrics.watch_mailboxes(actor, depth, sum(box.capacity for box in boxes))


def depth_of(mailboxes: Sequence[Mailbox[Any, Any]]) -> int:
    """Return how many calls wait in them."""
    return sum(map(len, mailboxes))


def asked(house: House, bridge: Bridge) -> Asked:
    """Return what is asked for the metrics, with this node's numbers."""
    return Asked(
        store=house.store,
        database_up=house.readiness.database_up,
        bridge_trip=partial(bridge.run, nothing),
        redis_memory=None if house.aside is None else house.aside.memory,
        packs=house.registry.pack_types,
        tenants=house.config.metrics.tenants,
        interval_s=min(READ_S, house.config.lease.heartbeat_interval_s),
    )


def queue_name(config: Config) -> str:
    """Return the name of the queue, the last word of its URL."""
    assert config.sqs.queue_url is not None
    return config.sqs.queue_url.rsplit("/", 1)[-1]


async def nothing() -> None:
    """Do nothing, on the bridge: how long that takes is how late its thread is."""
