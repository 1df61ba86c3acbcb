"""What the parts of a node share, made once, and what a reload changes in it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from dpp.actors.attempts import Attempts
from dpp.actors.batches import Refusals
from dpp.actors.claimer import Rounds
from dpp.actors.courier import Courier
from dpp.actors.delivery import Delivery
from dpp.actors.herald import Herald
from dpp.actors.intake import IntakeDesk
from dpp.actors.keyring import Uses
from dpp.actors.messenger import Messenger
from dpp.actors.orders import Heard
from dpp.actors.reaper import Calm
from dpp.actors.reconciler import Reconciler
from dpp.actors.ring import Ring
from dpp.actors.settler import SettlingDesk
from dpp.actors.supervisor import Stopping
from dpp.actors.tenure import Standing
from dpp.actors.watchboard import Watchboard
from dpp.blob_store import BlobStore
from dpp.database import limits_of
from dpp.egress import Rules
from dpp.http.auth import Authenticator
from dpp.http.readiness import Readiness
from dpp.http.shedding import Shedding
from dpp.http.submissions import SUBMIT_WAIT_S
from dpp.live import Live, Pace
from dpp.logs import get_logger
from dpp.neighbours import Offer
from dpp.node.sockets import Sockets
from dpp.outgoing.sender import Sender
from dpp.packs.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from dpp.config import Config
    from dpp.datadir import DataDir
    from dpp.plans import Plans
    from dpp.store.aside import Aside
    from dpp.store.postgres import PostgresStore
    from dpp.store.sqs import SqsQueue

# One lane of the intake commits more than HTTP brings (13,000 a second against 3,000); of two, each
# had half of what waits, so that single submits of many tenants took a quarter more of everything.
INTAKE_LANES = 1
SETTLER_LANES = 2  # two transactions in flight keep PostgreSQL busy on a small machine
SUBMISSIONS_MAX = 8000  # waiting: a few batch bodies of 1,000 and their like; then 503
ENDS_MAX = 1000  # waiting, a lane: executors wait for a place, so this only bounds a batch's lead

log = get_logger(__name__)


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
        submissions = IntakeDesk(INTAKE_LANES, SUBMISSIONS_MAX, SUBMIT_WAIT_S)
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


def reaping_pace(config: Config) -> Pace:
    """Return the pace of the reaper."""
    return Pace(config.reaper.interval_s, config.reaper.scan_limit)


def reconciling_pace(config: Config) -> Pace:
    """Return the pace of the reconciler."""
    return Pace(config.reconcile.interval_s, config.reconcile.scan_limit)


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
