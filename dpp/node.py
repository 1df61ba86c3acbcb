"""The node: the one place that wires store, actors and HTTP, owns signals, and drains.

The nesting of the nurseries is the order of shutdown, innermost first: HTTP answers what it has,
the intake commits what waits, runs get `drain_s` and what is left is handed back, the settler
settles what ended, then upkeep ends, then the store, and PostgreSQL last. SIGKILL at any point is
safe: the leases lapse, and the next start on the same data directory ends them at once.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import socket
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field, frozen

from dpp import config as configuration
from dpp import datadir, descriptors, failpoints, logs, metrics, tls, turns
from dpp.actors.attempts import Attempts
from dpp.actors.auditor import Auditor, auditor
from dpp.actors.batches import Refusals
from dpp.actors.claimer import Rounds, claimer
from dpp.actors.courier import DRAIN_S as COURIER_DRAIN_S
from dpp.actors.courier import Courier
from dpp.actors.delivery import Delivery
from dpp.actors.depths import DepthGauge
from dpp.actors.executor import execute
from dpp.actors.follower import follower
from dpp.actors.gauges import READ_S, Asked
from dpp.actors.hearsay import Hearers, hearsay
from dpp.actors.herald import Herald
from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.keyring import Uses, keyring
from dpp.actors.lanes import keep_lanes
from dpp.actors.mailbox import Mailbox
from dpp.actors.messenger import Messenger
from dpp.actors.orders import Heard, ask_orders
from dpp.actors.poller import Poller
from dpp.actors.pruner import PASS_S as PRUNE_S
from dpp.actors.pruner import pruner
from dpp.actors.reaper import Calm, reaper
from dpp.actors.reconciler import COLLECT_S, Reconciler, collector, reconciler
from dpp.actors.reloader import reloader
from dpp.actors.ring import Ring
from dpp.actors.settler import SettlingDesk, settler
from dpp.actors.supervisor import Stopping, supervise
from dpp.actors.tenure import Standing, work
from dpp.actors.wake import Wake, first_of, when
from dpp.actors.watchboard import Watchboard
from dpp.actors.watchdog import watchdog
from dpp.auditing import reconcile_type
from dpp.blob_store import BlobStore, open_blobs
from dpp.database import limits_of, migrate_database, open_store, provide_roles, run_beside
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
from dpp.http.reading import Reading
from dpp.http.services import Bounds, Services
from dpp.http.shedding import Shedding
from dpp.ids import RunIds
from dpp.live import Live, Pace
from dpp.logs import get_logger
from dpp.membership import Report
from dpp.neighbours import Offer
from dpp.outgoing.sender import Sender
from dpp.packs.registry import Registry
from dpp.reports import TO_INSTALL, NoSentry, open_reports
from dpp.store.aside import open_aside
from dpp.store.audits import invariants
from dpp.store.bridge import open_bridge
from dpp.store.embedded import STOP_S_MAX
from dpp.store.identity import assert_known_store
from dpp.store.refusal import StartRefused
from dpp.store.sqs import open_queue
from dpp.systemd.notify import Manager
from dpp.systemd.sockets import HTTP, MANAGEMENT, inherited
from dpp.urls import Address
from dpp.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from uuid import UUID

    from dpp.config import Config
    from dpp.datadir import DataDir
    from dpp.http.dispatch import Dispatcher
    from dpp.plans import Plans
    from dpp.store.aside import Aside
    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from dpp.store.sqs import SqsQueue

__all__ = ["StartRefused", "migrate", "provide_roles", "run_beside", "serve"]

# One lane of the intake commits more than HTTP brings (13,000 a second against 3,000); of two, each
# had half of what waits, so that single submits of many tenants took a quarter more of everything.
INTAKE_LANES = 1
POLLERS = 2  # one takes hints out while the other reads rows, as fast as a node puts them in
SETTLER_LANES = 2  # two transactions in flight keep PostgreSQL busy on a small machine
SUBMISSIONS_MAX = 8000  # waiting: a few batch bodies of 1,000 and their like; then 503
ENDS_MAX = 1000  # waiting, a lane: executors wait for a place, so this only bounds a batch's lead
# Two threads share one interpreter; the default of 5 ms lets one of them starve the other.
SWITCH_INTERVAL_S = 0.0005
# Objects made and not freed before the young ones are looked through: a batch has far more than the
# default of 700 alive, hardly one of them in a cycle. It takes 5 to 10 % off a submit.
YOUNG_MAX = 20_000
OVER_S = 10.0  # beyond drain_s: for HTTP, the last batches and the lease; then all is cancelled
LAST_WORDS_S = 1.0  # for what the last attempts told: two questions of the follower; not money
HURRY_S = 5.0  # what a second SIGTERM leaves: for the lease, runs get nothing
# Of a loop beyond its own pause without a turn, before it counts as hanging. What a turn asks is
# bounded by tens of seconds; a restart that was not needed costs more than a loop that stood still.
TURN_S = 300.0
LONGEST = 1.1  # a pause is drawn, and is so much of its setting at most
WATCHDOG_S = 30.0  # between two limits where systemd waits for a start, and has set none

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
    "reloader",
    *LOOPS,
)

migrate = migrate_database

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
class Sockets:
    """Where the node will listen."""

    public: list[socket.socket]
    management: list[socket.socket]


@contextmanager
def bound(config: Config, given: Mapping[str, list[socket.socket]]) -> Iterator[Sockets]:
    """Take both ports, before a database is made and migrated for a node that cannot have them.

    Connections are refused until they can be answered; on sockets that were `given` they wait.
    """
    with (
        listening(config.http.listen, given.get(HTTP), "http.listen") as public,
        listening(config.management.listen, given.get(MANAGEMENT), "management.listen") as inside,
    ):
        yield Sockets(public, inside)


@contextmanager
def listening(
    configured: Address, given: list[socket.socket] | None, key: str
) -> Iterator[list[socket.socket]]:
    """Give the sockets that systemd handed over, or bind the address that is configured."""
    if given is None:
        with listener.bound(configured.host, configured.port) as sockets:
            yield sockets
        return
    with listener.adopted(given) as sockets:
        addresses = [str(Address(*sock.getsockname()[:2])) for sock in sockets]
        log.info("listening on sockets from systemd", addresses=addresses, instead_of=key)
        yield sockets


@frozen
class Rereading:
    """A reload: who rings for it, how the configuration is read anew, and who is told."""

    hangup: Wake
    reread: Callable[[], Config]
    manager: Manager
    set_level: Callable[[str], None]


@define(eq=False)
class House:
    """What the node's parts share: made once, handed to each as far as it uses it."""

    running: Live[Config]
    plans: Live[Plans]
    reaping_pace: Live[Pace]
    reconciling_pace: Live[Pace]
    audit_interval: Live[float]
    concurrency: Live[int]
    held: DataDir
    sockets: Sockets
    store: PostgresStore
    stopping: Stopping
    registry: Registry
    rounds: Rounds
    attempts: Attempts
    standing: Standing
    heard: Heard
    board: Watchboard
    submissions: IntakeDesk
    settlements: SettlingDesk
    blobs: BlobStore
    delivery: Delivery
    calm: Calm
    reaping: Refusals
    reconciling: Reconciler
    outgoing: Rules
    courier: Courier
    uses: Uses
    aside: Aside | None
    herald: Herald
    queue: SqsQueue | None
    messenger: Messenger
    shedding: Shedding
    keys: Authenticator
    readiness: Readiness = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.readiness = Readiness(self.store.ping, self.helpers)

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self.running.now

    def adopt(self, set_level: Callable[[str], None], config: Config) -> None:
        """Take over what of a configuration is live, all of it between two steps of everybody."""
        self.running.now = config
        self.plans.now = self.store.plans = config.plans
        self.store.limits = limits_of(config)
        self.standing.offer = Offer.of(config.plans, self.registry.versions)
        self.reaping_pace.now = reaping_pace(config)
        self.reconciling_pace.now = reconciling_pace(config)
        self.audit_interval.now = config.audit.interval_s
        self.concurrency.now = config.runs.concurrency
        set_level(config.log.level)

    def key_ended(self, key_id: str) -> None:
        """Hear that an operator or a tenant ended a key here: no node goes on by its memory."""
        self.keys.forget(key_id)
        self.herald.key_ended(key_id)

    @property
    def helpers(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return how to ask each helper in use whether it is there, by its name in `/readyz`."""
        redis = {} if self.aside is None else {"redis": self.aside.probe}
        sqs = {} if self.queue is None else {"sqs": self.queue.probe}
        return {**self.blobs.pings, **redis, **sqs}

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
        blob_store: BlobStore,
        stopping: Stopping,
        aside: Aside | None,
        queue: SqsQueue | None,
    ) -> House:
        """Make the parts; nothing runs yet. `aside`: Redis, `queue`: SQS, where there is one."""
        herald = Herald(aside)
        blobs = blob_store.blobs
        registry = load_packs()
        offer = Offer.of(config.plans, registry.versions)
        rounds = Rounds(Ring(Random()), herald.queued)  # noqa: S311  # an order of service
        attempts = Attempts(rounds.freed)
        outgoing, uses = egress_rules(config, sockets), Uses()
        standing = Standing(str(held.node_id), attempts, offer)
        submissions = IntakeDesk(INTAKE_LANES, SUBMISSIONS_MAX)
        reconciling = Live(reconciling_pace(config))
        return cls(
            running=Live(config),
            plans=Live(config.plans),
            reaping_pace=Live(reaping_pace(config)),
            reconciling_pace=reconciling,
            audit_interval=Live[float](config.audit.interval_s),
            concurrency=Live(config.runs.concurrency),
            held=held,
            sockets=sockets,
            store=store,
            stopping=stopping,
            registry=registry,
            rounds=rounds,
            attempts=attempts,
            standing=standing,
            heard=Heard(),
            board=Watchboard(attempts.executes, herald.changed),
            submissions=submissions,
            settlements=SettlingDesk(SETTLER_LANES, ENDS_MAX),
            blobs=blob_store,
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
                pace=reconciling,
                lease_s=config.lease.lease_s,
                store_wait_s=config.reconcile.store_wait_s,
            ),
            outgoing=outgoing,
            uses=uses,
            courier=Courier(store=store, post=Sender(outgoing).post),
            aside=aside,
            herald=herald,
            queue=queue,
            messenger=Messenger(queue),
            shedding=Shedding(submissions, standing.clock.unix_ms, herald.used_up),
            keys=Authenticator(store.find_key, uses.note),
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


async def reload(house: House, rereading: Rereading) -> None:
    """Run the reloader."""
    adopt = partial(house.adopt, rereading.set_level)
    await reloader(rereading.hangup, rereading.reread, house.running, adopt, rereading.manager)


def reaping_pace(config: Config) -> Pace:
    """Return the pace of the reaper."""
    return Pace(config.reaper.interval_s, config.reaper.scan_limit)


def reconciling_pace(config: Config) -> Pace:
    """Return the pace of the reconciler."""
    return Pace(config.reconcile.interval_s, config.reconcile.scan_limit)


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


async def audit(house: House) -> None:
    """Run the auditor; it knows nothing yet, so its first pass reads everything."""
    await auditor(Auditor(house.store), interval=house.audit_interval)


async def reconcile(house: House) -> None:
    """Run the reconciler; what it waits for outlives its crashes."""
    await reconciler(house.reconciling)


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


async def poll(house: House, queue: SqsQueue) -> None:
    """Take hints out of the queue until the drain: what comes then is for other nodes."""
    poller = Poller(
        queue=queue, store=house.store, heard=house.rounds.heard, full=lambda: house.rounds.full
    )
    await first_of(house.stopping.draining.wait, poller.run)


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


async def hold_tenures(house: House) -> None:  # noqa: ASYNC910 - the last tenure was a wait
    """Live tenure after tenure, until the node stops; none while it is asked to drain."""
    draining = house.stopping.draining
    while not draining.is_set():
        turns.resting("tenure")  # while an operator lets this node rest, for as long as he likes
        await first_of(house.heard.may_work, draining.wait)
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


async def serve_http(house: House, management_url: str, manager: Manager) -> None:
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
        gc.set_threshold(YOUNG_MAX)
        url = url_of(public, "https" if config.http.tls_certificate else "http")
        house.held.publish(url=url, management_url=management_url)
        log.info("ready", url=url, management_url=management_url)
        manager.ready(f"serving {url}")


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
    await first_of(house.standing.first_lease.wait, house.stopping.draining.wait)


def make_services(house: House) -> Services:
    """Put together what the handlers work with."""
    config, store = house.config, house.store
    return Services(
        intake=house.shedding,
        reads=store,
        cancels=store,
        webhooks=store,
        outgoing=house.outgoing,
        results=house.blobs.blobs,
        findings=store,
        watching=house.board,
        packs=house.registry,
        plans=house.plans,
        keys=house.keys,
        key_ended=house.key_ended,
        keyring=store,
        readiness=house.readiness,
        reading=Reading(house.aside),
        holding=Holding(max(1, config.http.connections_max // SHARE)),
        neighbourhood=lambda: house.standing.neighbourhood,
        orders=lambda: house.heard.orders,
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
