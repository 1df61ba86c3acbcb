"""The loops of a node, each run with this node's numbers, and how long each may be silent."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

from attrs import frozen

from dpp import metrics
from dpp.actors.auditor import Auditor, auditor
from dpp.actors.follower import follower
from dpp.actors.hearsay import Hearers, hearsay
from dpp.actors.orders import ask_orders
from dpp.actors.poller import Poller
from dpp.actors.pruner import PASS_S as PRUNE_S
from dpp.actors.reaper import reaper
from dpp.actors.reconciler import COLLECT_S, reconciler
from dpp.actors.reloader import reloader
from dpp.actors.wake import Wake, first_of
from dpp.membership import Report
from dpp.node.house import House
from dpp.systemd.notify import Manager
from dpp.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpp.config import Config
    from dpp.store.aside import Aside
    from dpp.store.sqs import SqsQueue

LOOPS = (
    "orders",
    "tenure",
    "follower",
    "reaper",
    "reconciler",
    "collector",
    "auditor",
    "courier",
    "keyring",
    "pruner",
    "gauges",
)
ACTORS = (
    *("intake", "settler", "claimer", "herald", "hearsay", "messenger", "poller", "depths"),
    *("reloader", "hourglass"),
    *LOOPS,
)
# Of a loop beyond its own pause without a turn, before it counts as hanging. What a turn asks is
# bounded by tens of seconds; a restart that was not needed costs more than a loop that stood still.
TURN_S = 300.0
LONGEST = 1.1  # a pause is drawn, and is so much of its setting at most


def patience(config: Config) -> dict[str, float]:
    """Return how long each loop may go without a turn, in seconds."""
    return {loop: LONGEST * pause_s + TURN_S for loop, pause_s in pauses(config).items()}


def pauses(config: Config) -> dict[str, float]:
    """Return what each loop sleeps between two turns, in seconds; 0 = it is woken, or less than one."""  # noqa: E501
    return dict.fromkeys(LOOPS, 0.0) | {
        "tenure": config.lease.heartbeat_interval_s,
        "reaper": config.reaper.interval_s,
        "reconciler": config.reconcile.interval_s,
        "collector": COLLECT_S,
        "auditor": config.audit.interval_s,
        "pruner": PRUNE_S,
    }


@frozen
class Rereading:
    """A reload: who rings for it, how the configuration is read anew, and who is told."""

    hangup: Wake
    reread: Callable[[], Config]
    manager: Manager
    set_level: Callable[[str], None]


async def reload(house: House, rereading: Rereading) -> None:
    """Run the reloader."""
    adopt = partial(house.adopt, rereading.set_level)
    await reloader(rereading.hangup, rereading.reread, house.running, adopt, rereading.manager)


async def reap(house: House) -> None:
    """Run the reaper with this node's numbers."""
    await reaper(
        house.store,
        house.standing.earlier_gone,
        house.calm,
        house.reaping,
        house.rounds.taken_back,
        pace=house.reaping_pace,
        lease_s=house.config.lease.lease_s,
    )


async def reconcile(house: House) -> None:
    """Run the reconciler; what it waits for outlives its crashes."""
    await reconciler(house.reconciling)


async def audit(house: House) -> None:
    """Run the auditor; it knows nothing yet, so its first pass reads everything."""
    await auditor(Auditor(house.store), interval=house.audit_interval)


async def follow(house: House) -> None:
    """Run the follower."""
    await follower(house.store, house.attempts, house.board, house.stopping.draining)


async def listen_to_others(house: House, aside: Aside) -> None:
    """Pass on what other nodes tell."""
    hearers = Hearers(
        queued=house.rounds.heard,
        changed=house.board.heard,
        key_ended=house.keys.forget,
        used_up=house.shedding.heard,
    )
    await hearsay(aside, house.herald.name, hearers)


async def poll(house: House, queue: SqsQueue) -> None:  # noqa: ASYNC910 - supervised
    """Take hints out of the queue while this node may work: else they are for other nodes."""
    poller = Poller(
        queue=queue, store=house.store, heard=house.rounds.heard, full=lambda: house.rounds.full
    )
    draining = house.stopping.draining
    while not draining.is_set():
        await first_of(house.heard.may_work, draining.wait)
        await first_of(draining.wait, house.heard.must_rest, poller.run)


async def hear_orders(house: House) -> None:
    """Hear what operators ask of this node, and tell how it is."""

    def report() -> Report:
        return Report(
            node_id=house.standing.node_id,
            host=socket.gethostname(),
            version=VERSION,
            runs=len(house.attempts),
            concurrency=house.config.runs.concurrency,
            loops=metrics.loop_ages(),
        )

    await ask_orders(store=house.store, heard=house.heard, node_id=report().node_id, report=report)
