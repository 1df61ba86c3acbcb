"""A whole node on the fake store: its actors wired and nested as the real node does it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import trio
from attrs import define, field

from dpp.actors.attempts import Attempts
from dpp.actors.batches import Refusals
from dpp.actors.claimer import Rounds, claimer
from dpp.actors.delivery import Delivery
from dpp.actors.executor import execute
from dpp.actors.follower import follower
from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.lanes import keep_lanes
from dpp.actors.reaper import Calm, reaper
from dpp.actors.reconciler import Reconciler, reconciler
from dpp.actors.ring import Ring
from dpp.actors.settler import SettlingDesk, settler
from dpp.actors.supervisor import Stopping, supervise
from dpp.actors.tenure import Standing, work
from dpp.actors.watchboard import Watchboard
from dpp.admission import Admission, Created, Submission
from dpp.fingerprints import canonical
from dpp.live import Live, Pace
from dpp.money import Micros
from dpp.packs.ctx import Ctx
from dpp.packs.echo import ECHO
from dpp.packs.inputs import Json
from dpp.packs.pack import Pack
from dpp.packs.registry import Registry
from dpp.plans import Plan
from dpp.pricing import Appraised, FeeRule
from dpp.runs import Run
from dpp.tenants import NewTenant
from tests.fake_blobs import FakeBlobs
from tests.fake_store import FakeStore
from tests.store.examples import DOLLAR, new_key, run_id

SEED = 20_260_101
LEASE_S, HEARTBEAT_S, DRAIN_S, INTERVAL_S = 30.0, 10.0, 20.0, 5.0
INLINE_MAX_BYTES, RESULT_MAX_BYTES, STORE_WAIT_S = 64, 128, 60.0
FEE = FeeRule(floor=Micros(5_000), percent_ppm=20_000, cap=Micros(100_000))
FREE = FeeRule(floor=Micros(0), percent_ppm=0, cap=Micros(0))
PLANS = {
    "unlimited": Plan("unlimited", fee=FREE),
    "fee": Plan("fee", fee=FEE),
    "one_at_a_time": Plan("one_at_a_time", concurrent_runs=1, fee=FREE),
}

Execute = Callable[[Ctx, Any], Awaitable[object]]


class Line:
    """A node's line to the store. Cut, nothing that the node says arrives, as after `kill -9`."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.cut = False

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*args: Any, **kwargs: Any) -> Any:
            if self.cut:
                await trio.sleep_forever()
            return await getattr(self.store, verb)(*args, **kwargs)

        return ask


@define(eq=False, repr=False)
class World:
    """What outlives a node, and one node. `packs`: functions to execute, beside echo."""

    store: FakeStore = field(factory=lambda: FakeStore(PLANS))
    blobs: FakeBlobs = field(factory=FakeBlobs)
    packs: Mapping[str, Execute] = field(factory=dict)
    node_id: str = "node-1"
    concurrency: int = 50
    lease_s: float = LEASE_S
    heartbeat_s: float = HEARTBEAT_S
    interval_s: float = INTERVAL_S
    drain_s: float = DRAIN_S
    store_wait_s: float = STORE_WAIT_S
    new_line: Callable[[FakeStore], Line] = Line
    stopping: Stopping = field(factory=Stopping)
    ring: Ring = field(factory=lambda: Ring(Random(SEED)))
    submissions: IntakeDesk = field(factory=lambda: IntakeDesk(2, 1000))
    settlements: SettlingDesk = field(factory=lambda: SettlingDesk(2, 1000))
    line: Line = field(init=False)
    rounds: Rounds = field(init=False)
    attempts: Attempts = field(init=False)
    standing: Standing = field(init=False)
    board: Watchboard = field(init=False)
    delivery: Delivery = field(init=False)
    calm: Calm = field(init=False)
    reaping: Refusals = field(factory=Refusals)
    reconciling: Reconciler = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.line = self.new_line(self.store)
        self.rounds = Rounds(self.ring)
        self.attempts = Attempts(self.rounds.freed)
        self.standing = Standing(self.node_id, self.attempts)
        self.board = Watchboard(self.attempts.executes)
        self.calm = Calm(self.lease_s, self.interval_s, answered_at=trio.current_time())
        self.delivery = Delivery(
            store=self.line,
            blobs=self.blobs,
            inline_max_bytes=INLINE_MAX_BYTES,
            wait_s=self.store_wait_s,
        )
        self.reconciling = Reconciler(
            store=self.line,
            blobs=self.blobs,
            pace=Live(Pace(self.interval_s, 100)),
            lease_s=self.lease_s,
            store_wait_s=self.store_wait_s,
        )

    def restarted(self) -> World:
        """Return another life of the same node: all that was in memory is forgotten."""
        return World(
            self.store,
            self.blobs,
            self.packs,
            self.node_id,
            self.concurrency,
            self.lease_s,
            self.heartbeat_s,
            self.interval_s,
            self.drain_s,
            self.store_wait_s,
            self.new_line,
        )

    @property
    def registry(self) -> Registry:
        own = (pack_of(name, function) for name, function in self.packs.items())
        return Registry.of(ECHO, *own)

    async def serve(self) -> None:
        """Run the node until it has drained; raise the bug that made it."""
        async with trio.open_nursery() as upkeep:
            upkeep.start_soon(supervise, "reaper", self.reap, self.stopping.after)
            upkeep.start_soon(supervise, "reconciler", self.reconcile, self.stopping.after)
            await self.serve_without_reaper()
            upkeep.cancel_scope.cancel(reason="drained")
        if self.stopping.bug:
            raise self.stopping.bug

    async def serve_without_reaper(self) -> None:
        """Run all of the node but its recovery until it has drained."""
        self.blobs.known = self.blobs.known or await self.blobs.identify(None)
        keep = partial(supervise, give_up=self.stopping.after)
        async with trio.open_nursery() as upkeep:
            upkeep.start_soon(keep, "follower", self.follow)
            async with trio.open_nursery() as settling, self.settlements:
                settle = partial(settler, self.line, self.board.ended)
                settling.start_soon(
                    keep_lanes, "settler", self.settlements, settle, self.stopping.after
                )
                async with trio.open_nursery() as working:
                    working.start_soon(keep, "tenure", self.work)
                    async with trio.open_nursery() as intaking, self.submissions:
                        admit = partial(intake, self.line, self.rounds.queued)
                        intaking.start_soon(
                            keep_lanes, "intake", self.submissions, admit, self.stopping.after
                        )
                        await self.stopping.draining.wait()
            upkeep.cancel_scope.cancel(reason="drained")

    async def work(self) -> None:
        """Keep one tenure."""
        registry = self.registry
        perform = partial(
            execute,
            self.attempts,
            registry,
            self.delivery.deliver,
            self.settlements.settle,
            result_max_bytes=RESULT_MAX_BYTES,
        )
        claim = partial(
            claimer,
            self.line,
            self.rounds,
            perform,
            packs=registry.pack_types,
            concurrency=Live(self.concurrency),
        )
        await work(
            self.line,
            self.standing,
            self.stopping.draining,
            self.stopping.hurrying,
            claim,
            self.stopping.after,
            drain_s=self.drain_s,
            lease_s=self.lease_s,
            heartbeat_s=self.heartbeat_s,
        )

    async def reap(self) -> None:
        await reaper(
            self.line,
            self.standing.earlier_gone,
            self.calm,
            self.reaping,
            self.rounds.taken_back,
            pace=Live(Pace(self.interval_s, 100)),
            lease_s=self.lease_s,
        )

    async def reconcile(self) -> None:
        await reconciler(self.reconciling)

    async def follow(self) -> None:
        await follower(self.line, self.attempts, self.board, self.stopping.draining)

    async def tenant(self, tenant_id: str = "acme", plan: str = "unlimited") -> None:
        """Make a tenant with ten dollars."""
        tenant = NewTenant(
            tenant_id=tenant_id,
            plan=plan,
            key=new_key(f"key-of-{tenant_id}", tenant_id),
            deposit=Micros(10 * DOLLAR),
            reference="first",
            operator="ops",
        )
        await self.store.create_tenant(tenant)

    async def submit(self, submission: Submission) -> UUID:
        """Submit at the desk; it must be created."""
        admission: Admission = await self.submissions.submit(submission)
        assert isinstance(admission, Created), admission
        return admission.run_id

    def run(self, run_id: UUID) -> Run:
        """Look a run up, without asking the store."""
        whose = self.store.rows.submissions[run_id].asked.tenant_id
        run = self.store.rows.run(whose, run_id, self.store.now())
        assert run is not None
        return run


def pack_of(name: str, function: Execute) -> Pack[Any]:
    """Make a pack of a function; it takes any inputs as they are."""
    return Pack(
        pack_type=name,
        version="1",
        inputs=Any,  # type: ignore[arg-type]
        result=object,
        price="nothing",
        quote=lambda _: Appraised(),
        execute=function,
    )


def asked(
    tenant_id: str = "acme",
    pack_type: str = "echo",
    inputs: Mapping[str, Json] | None = None,
    *,
    key: str | None = None,
    max_cost: int = 100_000,
    timebox_s: int = 60,
    priority: int = 5,
) -> Submission:
    """Return a submission of a new run."""
    new_id = run_id()
    body = canonical(inputs or {})
    return Submission(
        run_id=new_id,
        tenant_id=tenant_id,
        key_id=f"key-of-{tenant_id}",
        idempotency_key=key or f"order-{new_id}",
        fingerprint=b"\x01" + body,
        pack_type=pack_type,
        pack_version="1",
        inputs=body,
        max_cost=Micros(max_cost),
        priority=priority,
        timebox_s=timebox_s,
        trace_id=f"trace-of-{new_id}",
        appraisal=Appraised(),
    )


def result_of(run: Run) -> object:
    """Decode a run's result."""
    assert run.result is not None
    return json.loads(run.result)
