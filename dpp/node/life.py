"""The node: the one place that wires store, actors and HTTP, owns signals, and drains.

The nesting of the nurseries is the order of shutdown, innermost first: HTTP answers what it has,
the intake commits what waits, runs get `drain_s` and what is left is handed back, the settler
settles what ended, then upkeep ends, then the store, and PostgreSQL last. SIGKILL at any point is
safe: the leases lapse, and the next start on the same data directory ends them at once.
"""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from dpp import config as configuration
from dpp import datadir, descriptors, failpoints, logs, metrics
from dpp.actors.courier import DRAIN_S as COURIER_DRAIN_S
from dpp.actors.depths import DepthGauge
from dpp.actors.intake import intake
from dpp.actors.keyring import keyring
from dpp.actors.lanes import keep_lanes
from dpp.actors.pruner import pruner
from dpp.actors.reconciler import collector
from dpp.actors.settler import settler
from dpp.actors.supervisor import Stopping, supervise
from dpp.actors.wake import Wake
from dpp.auditing import reconcile_type
from dpp.blob_store import open_blobs
from dpp.database import open_store
from dpp.http import management
from dpp.http.admin.app import admin_app
from dpp.http.admin.desk import Desk
from dpp.logs import get_logger
from dpp.node.front import serve_http, url_of
from dpp.node.house import House
from dpp.node.loops import (
    ACTORS,
    Rereading,
    audit,
    follow,
    hear_orders,
    listen_to_others,
    pauses,
    poll,
    reap,
    reconcile,
    reload,
)
from dpp.node.sockets import Sockets, bound
from dpp.node.tenures import hold_tenures
from dpp.node.watching import asked, keep_watch, queue_name, watch_mailboxes
from dpp.reports import TO_INSTALL, NoSentry, open_reports
from dpp.store.aside import open_aside
from dpp.store.audits import invariants
from dpp.store.bridge import open_bridge
from dpp.store.embedded import STOP_S_MAX
from dpp.store.identity import assert_known_store
from dpp.store.refusal import StartRefused
from dpp.store.sqs import open_queue
from dpp.systemd.notify import Manager
from dpp.systemd.sockets import inherited

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from dpp.config import Config
    from dpp.datadir import DataDir
    from dpp.store.bridge import Bridge


# Two threads share one interpreter; the default of 5 ms lets one of them starve the other.
SWITCH_INTERVAL_S = 0.0005
POLLERS = 2  # one takes hints out while the other reads rows, as fast as a node puts them in
OVER_S = 10.0  # beyond drain_s: for HTTP, the last batches and the lease; then all is cancelled
LAST_WORDS_S = 1.0  # for what the last attempts told: two questions of the follower; not money
HURRY_S = 5.0  # what a second SIGTERM leaves: for the lease, runs get nothing

log = get_logger(__name__)


async def serve(
    config: Config, *, data_dir: Path, reread: Callable[[], Config], demo: bool = False
) -> None:
    """Run a node until it is told to stop, and drain it. Raises the bug that ended it.

    `reread` reads the configuration anew, for a reload; it raises `ConfigErrors`.
    """
    for warning in config.warnings:
        log.warning(warning)
    failpoints.arm(config.testing.failpoints)
    descriptors.make_room(config.http.connections_max)
    manager = Manager.of(os.environ, os.getpid())
    given = inherited(os.environ, os.getpid())
    with datadir.hold(data_dir, demo=demo) as held, bound(config, given) as sockets:
        token = config.management.token or datadir.admin_token(held.path)
        assert token is not None
        mask = (*configuration.secrets(config), token)
        logs.configure(config.log.level, config.log.format, secrets=mask)
        async with (
            reporting(config),
            open_bridge(SWITCH_INTERVAL_S) as bridge,
            trio.open_nursery() as guarding,
        ):
            guarding.start_soon(bridge.watch)
            stopping = Stopping()
            hangup = Wake()
            guarding.start_soon(heed_signals, stopping, hangup)
            drain_s = config.node.drain_s
            guarding.start_soon(bound_drain, stopping, guarding.cancel_scope, drain_s, manager)
            if manager.listens:
                guarding.start_soon(keep_watch, config, bridge, stopping, manager)
            relog = partial(logs.configure, style=config.log.format, secrets=mask)
            rereading = Rereading(hangup, reread, manager, relog)
            await live(config, held, sockets, bridge, stopping, token, rereading, fresh=demo)
            guarding.cancel_scope.cancel(reason="drained")
    log.info("stopped")
    if stopping.bug is not None:
        raise stopping.bug


@asynccontextmanager
async def reporting(config: Config) -> AsyncIterator[None]:
    """Report errors to Sentry, where that is configured; to send the last ones takes a moment."""
    if config.sentry.dsn is None:
        yield
        return
    try:
        close = open_reports(config.sentry.dsn, config.node.profile)
    except NoSentry as none:
        raise StartRefused(str(none), TO_INSTALL) from none
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(close)


async def heed_signals(stopping: Stopping, hangup: Wake) -> None:
    """Begin the drain at SIGTERM or SIGINT, reload at SIGHUP; a second signal to end hurries."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                hangup.ring()
                continue
            if stopping.draining.is_set():
                stopping.hurrying.set()
            stopping.begin(signal.Signals(number).name)


async def bound_drain(
    stopping: Stopping, whole: trio.CancelScope, drain_s: float, manager: Manager
) -> None:
    """Cancel what is left some time after the drain began: an outage may outlast it."""
    await stopping.draining.wait()
    whole.deadline = min(whole.deadline, trio.current_time() + drain_s + OVER_S)
    manager.stopping(drain_s + OVER_S + STOP_S_MAX)
    await stopping.hurrying.wait()
    whole.deadline = min(whole.deadline, trio.current_time() + HURRY_S)


async def live(  # the parts of a node
    config: Config,
    held: DataDir,
    sockets: Sockets,
    bridge: Bridge,
    stopping: Stopping,
    token: str,
    rereading: Rereading,
    *,
    fresh: bool,
) -> None:
    """Open the store, run everything on it, and come back when it has drained, in order."""
    async with (
        open_blobs(config, held.blobs, bridge) as blobs,  # refused before a database is made
        open_store(config, held, bridge, fresh=fresh) as store,
        open_aside(bridge, config.redis.url, store) as aside,
        open_queue(config, bridge) as queue,
        trio.open_nursery() as operating,
    ):
        house = House.build(config, held, sockets, store, blobs, stopping, aside, queue)
        drained = trio.Event()
        await assert_known_store(store, blobs.blobs, blobs.where)
        metrics.declare(
            actors=ACTORS,
            loops=pauses(config),
            verbs=("submit_runs", "end_runs", "claim_runs", "renew_lease", "mark_storing"),
            packs=house.registry.pack_types,
            invariants=[invariant.name for invariant in invariants()],
            reconcile_types=[reconcile_type(invariant.name) for invariant in invariants()],
        )
        watch_mailboxes(house)
        desk = Desk(
            store,
            blobs.blobs,
            house.plans,
            secrets.token_bytes,
            house.key_ended,
            lambda: configuration.show(house.config),
        )
        admin = admin_app(desk, token)
        inside = await operating.start(
            management.serve, admin, sockets.management, operating, drained
        )
        held.publish(url="", management_url=url_of(inside))  # an operator may have to let it work
        await run_actors(house, bridge, url_of(inside), rereading)
        drained.set()  # a drain is watched to its end
        operating.cancel_scope.deadline = trio.current_time() + management.GRACE_S


async def run_actors(
    house: House, bridge: Bridge, management_url: str, rereading: Rereading
) -> None:
    """Run actors and public HTTP until the drain is over."""
    store, stopping, manager = house.store, house.stopping, rereading.manager
    keep = partial(supervise, give_up=stopping.after)
    async with trio.open_nursery() as upkeep:
        upkeep.start_soon(keep, "reloader", partial(reload, house, rereading))
        upkeep.start_soon(keep, "orders", partial(hear_orders, house))
        upkeep.start_soon(keep, "reaper", partial(reap, house))
        upkeep.start_soon(keep, "follower", partial(follow, house))
        upkeep.start_soon(keep, "reconciler", partial(reconcile, house))
        upkeep.start_soon(keep, "collector", partial(collector, store, house.blobs.blobs))
        upkeep.start_soon(keep, "auditor", partial(audit, house))
        upkeep.start_soon(keep, "keyring", partial(keyring, store, house.uses))
        upkeep.start_soon(keep, "hourglass", house.submissions.hourglass.run)
        upkeep.start_soon(keep, "pruner", partial(pruner, store))
        upkeep.start_soon(keep, "courier", house.courier.run)
        upkeep.start_soon(keep, "gauges", asked(house, bridge).run)
        if house.aside is not None:
            upkeep.start_soon(keep, "herald", house.herald.run)
            upkeep.start_soon(keep, "hearsay", partial(listen_to_others, house, house.aside))
        if house.queue is not None:
            upkeep.start_soon(keep, "messenger", house.messenger.run)
            upkeep.start_soon(keep, "depths", DepthGauge(house.queue, queue_name(house.config)).run)
            for _ in range(POLLERS):
                upkeep.start_soon(keep, "poller", partial(poll, house, house.queue))
        async with trio.open_nursery() as settling, house.settlements:  # outlives the runs
            settle = partial(settler, store, house.ended)
            settling.start_soon(keep_lanes, "settler", house.settlements, settle, stopping.after)
            async with trio.open_nursery() as working:  # runs get drain_s
                working.start_soon(keep, "tenure", partial(hold_tenures, house))
                async with trio.open_nursery() as taking_in, house.submissions:  # outlives HTTP
                    admit = partial(
                        intake, store, house.rounds.queued, admitted=house.messenger.admitted
                    )
                    taking_in.start_soon(
                        keep_lanes, "intake", house.submissions, admit, stopping.after
                    )
                    await serve_http(house, management_url, manager)
        with trio.move_on_after(LAST_WORDS_S):
            await house.board.finish()
        with trio.move_on_after(COURIER_DRAIN_S):  # what is left waits in its rows
            await house.courier.finish()
        upkeep.cancel_scope.cancel(reason="drained")
