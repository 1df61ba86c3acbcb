"""The node: the one place that wires store, actors and HTTP, owns signals, and drains.

The nesting of the nurseries is the order of shutdown, innermost first: HTTP answers what it has,
the intake commits what waits, runs get `drain_s` and what is left is handed back, the settler
settles what ended, then upkeep ends, then the store, and PostgreSQL last. SIGKILL at any point is
safe: the leases lapse, and the next start on the same data directory ends them at once.
"""

from __future__ import annotations

import gc
import secrets
import signal
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import trio
from attrs import define, frozen

from dpp import config as configuration
from dpp import datadir, descriptors, failpoints, logs, metrics, tls
from dpp.actors.attempts import Attempts
from dpp.actors.auditor import Auditor, auditor
from dpp.actors.batches import Refusals
from dpp.actors.claimer import Rounds, claimer
from dpp.actors.courier import DRAIN_S as COURIER_DRAIN_S
from dpp.actors.courier import Courier
from dpp.actors.delivery import Delivery
from dpp.actors.executor import execute
from dpp.actors.follower import follower
from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.keyring import Uses, keyring
from dpp.actors.lanes import keep_lanes
from dpp.actors.reaper import Calm, reaper
from dpp.actors.reconciler import Reconciler, collector, reconciler
from dpp.actors.ring import Ring
from dpp.actors.settler import SettlingDesk, settler
from dpp.actors.supervisor import Stopping, supervise
from dpp.actors.tenure import Standing, work
from dpp.actors.watchboard import Watchboard
from dpp.database import migrate_database, open_store
from dpp.egress import Rules
from dpp.http import listener, management, worker
from dpp.http.admin.app import admin_app
from dpp.http.admin.desk import Desk
from dpp.http.app import public_app
from dpp.http.auth import Authenticator
from dpp.http.connection import Connection
from dpp.http.exchange import Patience
from dpp.http.holding import SHARE, Holding
from dpp.http.readiness import Readiness
from dpp.http.services import Bounds, Services
from dpp.ids import RunIds
from dpp.logs import get_logger
from dpp.neighbours import Offer
from dpp.outgoing.sender import Sender
from dpp.packs.registry import Registry
from dpp.store.audits import invariants
from dpp.store.bridge import open_bridge
from dpp.store.directory_blobs import DirectoryBlobs
from dpp.store.identity import assert_known_store
from dpp.store.place import SchemaRefused as StartRefused

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from uuid import UUID

    from dpp.config import Config
    from dpp.datadir import DataDir
    from dpp.http.dispatch import Dispatcher
    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore

__all__ = ["StartRefused", "migrate", "serve"]

LANES = (
    2  # of intake and settler: two transactions in flight keep PostgreSQL busy on a small machine
)
SUBMISSIONS_MAX = 4000  # waiting, a lane: two batch bodies of 1,000 and their like; then 503
ENDS_MAX = 1000  # waiting, a lane: executors wait for a place, so this only bounds a batch's lead
# Two threads share one interpreter; the default of 5 ms lets one of them starve the other.
SWITCH_INTERVAL_S = 0.0005
OVER_S = 10.0  # beyond drain_s: for HTTP, the last batches and the lease; then all is cancelled
LAST_WORDS_S = 1.0  # for what the last attempts told: two questions of the follower; not money
HURRY_S = 5.0  # what a second SIGTERM leaves: for the lease, runs get nothing

LOOPS = ("tenure", "follower", "reaper", "reconciler", "collector", "auditor", "courier", "keyring")
ACTORS = ("intake", "settler", "claimer", *LOOPS)

migrate = migrate_database

log = get_logger(__name__)


async def serve(config: Config, *, data_dir: Path, demo: bool = False) -> None:
    """Run a node until it is told to stop, and drain it. Raises the bug that ended it."""
    for warning in config.warnings:
        log.warning(warning)
    failpoints.arm(config.testing.failpoints)
    descriptors.make_room(config.http.connections_max)
    with datadir.hold(data_dir, demo=demo) as held, bound(config) as sockets:
        token = config.management.token or datadir.admin_token(held.path)
        assert token is not None
        mask = (*configuration.secrets(config), token)
        logs.configure(config.log.level, config.log.format, secrets=mask)
        async with open_bridge(SWITCH_INTERVAL_S) as bridge, trio.open_nursery() as guarding:
            guarding.start_soon(bridge.watch)
            stopping = Stopping()
            guarding.start_soon(heed_signals, stopping, guarding.cancel_scope, config.node.drain_s)
            await live(config, held, sockets, bridge, stopping, token, fresh=demo)
            guarding.cancel_scope.cancel(reason="drained")
    log.info("stopped")
    if stopping.bug is not None:
        raise stopping.bug


async def heed_signals(stopping: Stopping, whole: trio.CancelScope, drain_s: float) -> None:
    """Begin the drain at SIGTERM or SIGINT, and bound it; a second signal shortens what is left."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bound_drain, stopping, whole, drain_s)
            async for number in signals:
                if stopping.draining.is_set():
                    stopping.hurrying.set()
                    whole.deadline = min(whole.deadline, trio.current_time() + HURRY_S)
                stopping.begin(signal.Signals(number).name)


async def bound_drain(stopping: Stopping, whole: trio.CancelScope, drain_s: float) -> None:
    """Cancel what is left some time after the drain began: an outage may outlast it."""
    await stopping.draining.wait()
    whole.deadline = min(whole.deadline, trio.current_time() + drain_s + OVER_S)


@frozen
class Sockets:
    """Where the node will listen."""

    public: list[socket.socket]
    management: list[socket.socket]


@contextmanager
def bound(config: Config) -> Iterator[Sockets]:
    """Take both ports, before a database is made and migrated for a node that cannot have them.

    Connections are refused until they can be answered.
    """
    outer, inner = config.http.listen, config.management.listen
    with (
        listener.bound(outer.host, outer.port) as public,
        listener.bound(inner.host, inner.port) as management,
    ):
        yield Sockets(public, management)


@define(eq=False)
class House:
    """What the node's parts share: made once, handed to each as far as it uses it."""

    config: Config
    held: DataDir
    sockets: Sockets
    store: PostgresStore
    stopping: Stopping
    registry: Registry
    rounds: Rounds
    attempts: Attempts
    standing: Standing
    board: Watchboard
    submissions: IntakeDesk
    settlements: SettlingDesk
    blobs: DirectoryBlobs
    delivery: Delivery
    calm: Calm
    reaping: Refusals
    reconciling: Reconciler
    outgoing: Rules
    courier: Courier
    uses: Uses

    def ended(self, run_id: UUID) -> None:
        """Hear that a run ended on this node: somebody may wait for it, here or elsewhere."""
        self.board.ended(run_id)
        self.courier.ring()

    @classmethod
    def build(
        cls,
        config: Config,
        held: DataDir,
        sockets: Sockets,
        store: PostgresStore,
        stopping: Stopping,
    ) -> House:
        """Make the parts; nothing runs yet."""
        blobs = DirectoryBlobs(held.blobs)
        registry = load_packs()
        offer = Offer.of(config.plans, registry.versions)
        rounds = Rounds(Ring(Random()))  # noqa: S311  # an order of service, not a secret
        attempts = Attempts(rounds.freed)
        outgoing = egress_rules(config, sockets)
        return cls(
            config=config,
            held=held,
            sockets=sockets,
            store=store,
            stopping=stopping,
            registry=registry,
            rounds=rounds,
            attempts=attempts,
            standing=Standing(str(held.node_id), attempts, offer),
            board=Watchboard(attempts.executes),
            submissions=IntakeDesk(LANES, SUBMISSIONS_MAX),
            settlements=SettlingDesk(LANES, ENDS_MAX),
            blobs=blobs,
            delivery=Delivery(
                store=store,
                blobs=blobs,
                inline_max_bytes=config.runs.inline_max_bytes,
                wait_s=config.reconcile.store_wait_s,
            ),
            calm=Calm(
                config.lease.lease_s,
                config.reaper.interval_s,
                answered_at=trio.current_time(),
            ),
            reaping=Refusals(),
            reconciling=Reconciler(
                store=store,
                blobs=blobs,
                scan_limit=config.reconcile.scan_limit,
                lease_s=config.lease.lease_s,
                store_wait_s=config.reconcile.store_wait_s,
            ),
            outgoing=outgoing,
            uses=Uses(),
            courier=Courier(store=store, post=Sender(outgoing).post),
        )


def egress_rules(config: Config, sockets: Sockets) -> Rules:
    """Return where requests that tenants name may go; never to this node's own listeners."""
    own = [*sockets.public, *sockets.management]
    return Rules(
        ports=frozenset(config.webhooks.ports),
        allow_loopback=config.webhooks.allow_loopback,
        own_ports=frozenset(one.getsockname()[1] for one in own),
    )


def load_packs() -> Registry:
    """Load the packs; one that cannot be loaded is said and left out."""
    registry = Registry.load()
    for error in registry.load_errors:
        log.error("pack not loaded", detail=str(error))
    return registry


async def live(  # the parts of a node
    config: Config,
    held: DataDir,
    sockets: Sockets,
    bridge: Bridge,
    stopping: Stopping,
    token: str,
    *,
    fresh: bool,
) -> None:
    """Open the store, run everything on it, and come back when it has drained, in order."""
    async with (
        open_store(config, held, bridge, fresh=fresh) as store,
        trio.open_nursery() as operating,
    ):
        house, drained = House.build(config, held, sockets, store, stopping), trio.Event()
        await assert_known_store(store, house.blobs, str(held.blobs))
        metrics.declare(
            actors=ACTORS,
            loops=LOOPS,
            verbs=("submit_runs", "end_runs", "claim_runs", "renew_lease", "mark_storing"),
            packs=house.registry.pack_types,
            invariants=[invariant.name for invariant in invariants()],
        )
        admin = admin_app(Desk(store, house.blobs, config.plans, secrets.token_bytes), token)
        inside = await operating.start(
            management.serve, admin, sockets.management, operating, drained
        )
        await run_actors(house, url_of(inside))
        drained.set()  # a drain is watched to its end
        operating.cancel_scope.deadline = trio.current_time() + management.GRACE_S


async def run_actors(house: House, management_url: str) -> None:
    """Run actors and public HTTP until the drain is over."""
    store, stopping = house.store, house.stopping
    keep = partial(supervise, give_up=stopping.after)
    async with trio.open_nursery() as upkeep:
        upkeep.start_soon(keep, "reaper", partial(reap, house))
        upkeep.start_soon(keep, "follower", partial(follow, house))
        upkeep.start_soon(keep, "reconciler", partial(reconcile, house))
        upkeep.start_soon(keep, "collector", partial(collector, store, house.blobs))
        upkeep.start_soon(keep, "auditor", partial(audit, house))
        upkeep.start_soon(keep, "keyring", partial(keyring, store, house.uses))
        upkeep.start_soon(keep, "courier", house.courier.run)
        async with trio.open_nursery() as settling, house.settlements:  # outlives the runs
            settle = partial(settler, store, house.ended)
            settling.start_soon(keep_lanes, "settler", house.settlements, settle, stopping.after)
            async with trio.open_nursery() as working:  # runs get drain_s
                working.start_soon(keep, "tenure", partial(hold_tenure, house))
                async with trio.open_nursery() as taking_in, house.submissions:  # outlives HTTP
                    admit = partial(intake, store, house.rounds.queued)
                    taking_in.start_soon(
                        keep_lanes, "intake", house.submissions, admit, stopping.after
                    )
                    await serve_http(house, management_url)
        with trio.move_on_after(LAST_WORDS_S):
            await house.board.finish()
        with trio.move_on_after(COURIER_DRAIN_S):  # what is left waits in its rows
            await house.courier.finish()
        upkeep.cancel_scope.cancel(reason="drained")


async def reap(house: House) -> None:
    """Run the reaper with this node's numbers."""
    await reaper(
        house.store,
        house.standing.earlier_gone,
        house.calm,
        house.reaping,
        house.rounds.taken_back,
        interval_s=house.config.reaper.interval_s,
        scan_limit=house.config.reaper.scan_limit,
        lease_s=house.config.lease.lease_s,
    )


async def audit(house: House) -> None:
    """Run the auditor; it knows nothing yet, so its first pass reads everything."""
    await auditor(Auditor(house.store), interval_s=house.config.audit.interval_s)


async def reconcile(house: House) -> None:
    """Run the reconciler; what it waits for outlives its crashes."""
    await reconciler(house.reconciling, interval_s=house.config.reconcile.interval_s)


async def follow(house: House) -> None:
    """Run the follower."""
    await follower(house.store, house.attempts, house.board, house.stopping.draining)


async def hold_tenure(house: House) -> None:
    """Live one tenure with this node's numbers."""
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
        concurrency=house.config.runs.concurrency,
    )
    await work(
        house.store,
        house.standing,
        house.stopping.draining,
        house.stopping.hurrying,
        claim,
        house.stopping.after,
        drain_s=house.config.node.drain_s,
        lease_s=house.config.lease.lease_s,
        heartbeat_s=house.config.lease.heartbeat_interval_s,
    )


async def serve_http(house: House, management_url: str) -> None:
    """Serve the public listener until the drain; return when the last connection is over."""
    config, draining = house.config, house.stopping.draining
    services = make_services(house)
    app = public_app(services, config.http.cors_allowed_origins)
    reception = make_reception(config, app)
    async with trio.open_nursery() as serving:
        await first_lease(house)
        public = await serving.start(
            listener.serve, reception, house.sockets.public, serving, draining
        )
        # What was loaded stays: a collection that looked at it all stopped the loop for 70-80 ms.
        gc.collect()
        gc.freeze()
        url = url_of(public, "https" if config.http.tls_certificate else "http")
        house.held.publish(url=url, management_url=management_url)
        log.info("ready", url=url, management_url=management_url)


def make_reception(config: Config, app: Dispatcher) -> listener.Reception:
    """Return what lets connections in: our own, or hypercorn's."""
    chain, key = config.http.tls_certificate, config.http.tls_key_file
    secure = tls.server_context(chain, key) if chain and key else None
    return listener.Reception(
        app,
        app.refuse,
        connections_max=config.http.connections_max,
        patience=Patience(),
        make=worker.connections(secure) if config.http.server == "hypercorn" else Connection,
        secure=secure is not None,
    )


async def first_lease(house: House) -> None:
    """Wait until this node may work, or is told to stop before it may."""
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await house.stopping.draining.wait()
            nursery.cancel_scope.cancel(reason="draining")

        nursery.start_soon(stop)
        await house.standing.first_lease.wait()
        nursery.cancel_scope.cancel(reason="ready")


def make_services(house: House) -> Services:
    """Put together what the handlers work with."""
    config, store = house.config, house.store
    return Services(
        intake=house.submissions,
        reads=store,
        cancels=store,
        webhooks=store,
        outgoing=house.outgoing,
        results=house.blobs,
        findings=store,
        watching=house.board,
        packs=house.registry,
        plans=config.plans,
        keys=Authenticator(store.find_key, house.uses.note),
        keyring=store,
        readiness=Readiness(store.ping),
        holding=Holding(max(1, config.http.connections_max // SHARE)),
        neighbourhood=lambda: house.standing.neighbourhood,
        new_run_id=RunIds(house.standing.clock.unix_ms, secrets.randbits).next,
        draining=house.stopping.draining,
        bounds=Bounds(
            body_max_bytes=config.http.body_max_bytes,
            batch_body_max_bytes=config.http.batch_body_max_bytes,
            wait_max_s=config.http.wait_max_s,
            timebox_s=config.runs.timebox_s,
            timebox_max_s=config.runs.timebox_max_s,
            result_max_bytes=config.runs.result_max_bytes,
        ),
    )


def url_of(addresses: Sequence[tuple[str, int]], scheme: str = "http") -> str:
    """Return the URL of the first address that a listener is bound to."""
    host, port = addresses[0]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
