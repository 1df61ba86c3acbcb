"""A node's tenures: from one lease to its end, claiming and executing between."""

from __future__ import annotations

from functools import partial

import trio

from dpp import turns
from dpp.actors.claimer import claimer
from dpp.actors.executor import execute
from dpp.actors.orders import Heard
from dpp.actors.tenure import return_owed, work
from dpp.actors.wake import first_of, when
from dpp.logs import get_logger
from dpp.node.house import House

log = get_logger(__name__)


async def hold_tenures(house: House) -> None:  # noqa: ASYNC910 - the last tenure was a wait
    """Live tenure after tenure, until the node stops; none while it is asked to drain."""
    draining = house.stopping.draining
    while not draining.is_set():
        turns.resting("tenure")  # while an operator lets this node rest, for as long as he likes
        async with trio.open_nursery() as resting:
            resting.start_soon(return_owed, house.store, house.standing)
            await first_of(house.heard.may_work, draining.wait)
            resting.cancel_scope.cancel(reason="it may work")
        turns.turned("tenure")
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(when, draining, over.set)
            nursery.start_soon(rest, house.heard, over)
            await hold_tenure(house, over)
            nursery.cancel_scope.cancel(reason="tenure over")


async def rest(heard: Heard, over: trio.Event) -> None:
    """Let a tenure end in order when the node is asked to drain."""
    await heard.must_rest()
    log.info("draining: an operator asked")
    over.set()


async def hold_tenure(house: House, over: trio.Event) -> None:
    """Live one tenure with this node's numbers, until it is `over`."""
    run = partial(
        execute,
        house.attempts,
        house.registry,
        house.delivery.deliver,
        house.settlements.settle,
        result_max_bytes=house.config.runs.result_max_bytes,
    )
    claim = partial(
        claimer,
        house.store,
        house.rounds,
        run,
        packs=house.registry.pack_types,
        concurrency=house.concurrency,
    )
    await work(
        house.store,
        house.standing,
        over,
        house.stopping.hurrying,
        claim,
        house.stopping.after,
        drain_s=house.config.node.drain_s,
        lease_s=house.config.lease.lease_s,
        heartbeat_s=house.config.lease.heartbeat_interval_s,
    )
