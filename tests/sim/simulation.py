"""One simulation: set up, load with faults, heal, wait until nothing is open, judge."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog
import trio
from attrs import frozen
from trio.testing import MockClock

from dpp import metrics
from dpp.money import Micros
from dpp.tenants import NewTenant
from tests.fake_faults import WALL_S
from tests.fake_store import FakeStore
from tests.sim import chance
from tests.sim.blobs import SimBlobs
from tests.sim.clients import TIMEBOXES_S, Client
from tests.sim.fleet import Fleet
from tests.sim.judge import Judge, named, summary
from tests.sim.line import Air
from tests.sim.scenario import ATTEMPTS_MAX, PLANS, STORE_WAIT_S, Scenario, draw
from tests.sim.trace import Trace
from tests.sim.trouble import Trouble
from tests.sim.weather import Weather
from tests.sim.witness import Witness, Witnessed
from tests.store.examples import new_key

LOOK_S = 0.5  # between two looks whether all is over
SLACK_S = 5.0  # of the promise: over lease, reaper's interval and time box
STOP_S = 5.0  # an idle node has stopped after it was asked to
COUNTED = {  # what the product counts itself, and nobody else sees
    "rolled forward": ("dpp_reconcile_total", {"outcome": "rolled_forward"}),
    "rolled back": ("dpp_reconcile_total", {"outcome": "missing"}),
}


@frozen(kw_only=True)
class Outcome:
    """What came of one seed."""

    seed: int
    scenario: str
    digest: str
    counts: Mapping[str, int]
    faults: tuple[str, ...]
    violations: tuple[str, ...]


def simulate(seed: int, *, log: bool = False) -> Outcome:
    """Run one seed; nothing of it outlives the call. `log`: let the nodes say what they do."""
    if not log:
        silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
        structlog.configure(processors=[dropped], wrapper_class=silent)
    scenario, trace = draw(seed), Trace()
    clock = MockClock(autojump_threshold=0)
    with chance.seeded(seed), counting(trace.counts):
        trio.run(partial(play, scenario, trace, clock), clock=clock)
    if trace.counts["actor crashed"]:
        trace.violations.append(f"no actor crashes: {trace.counts['actor crashed']} did")
    return Outcome(
        seed=seed,
        scenario=str(scenario),
        digest=trace.digest(),
        counts=dict(trace.counts),
        faults=tuple(trace.faults),
        violations=tuple(trace.violations),
    )


def dropped(*_: object) -> Any:
    """Say nothing of a line."""
    raise structlog.DropEvent


async def play(scenario: Scenario, trace: Trace, clock: MockClock) -> None:
    """Play one scenario from its first tenant to its judgement."""
    store = FakeStore(PLANS, attempts_max=ATTEMPTS_MAX, queue_ttl_s=scenario.queue_ttl_s)
    witness = Witness(rows=store.rows, trace=trace, caps=scenario.caps, attempts_max=ATTEMPTS_MAX)
    faults = store.faults = Witnessed(witness=witness)
    blobs = SimBlobs(dice=scenario.dice("blobs"), trace=trace)
    await blobs.identify(None)
    weather = Weather(dice=scenario.dice("weather"))
    await found(scenario, store)
    async with trio.open_nursery() as nodes:
        fleet = Fleet(
            scenario=scenario,
            store=store,
            blobs=blobs,
            air=Air(trace, weather, faults, witness),
            nursery=nodes,
        )
        clients = Client(scenario=scenario, fleet=fleet, trace=trace, dice=scenario.dice("clients"))
        trouble = Trouble(
            scenario=scenario,
            clock=clock,
            store=store,
            blobs=blobs,
            fleet=fleet,
            weather=weather,
            trace=trace,
        )
        for name in fleet.names:
            fleet.start(name)
        await load(scenario, clients, trouble)
        witness.keep()
        await end_of_all(scenario, store, fleet, trace)
        witness.keep()
        await clients.settle()
        await end_of_all(scenario, store, fleet, trace)
        await clients.look_at_all()
        await stop(scenario, fleet, trace)
        nodes.cancel_scope.cancel(reason="over")
    witness.keep()
    Judge(
        scenario=scenario,
        rows=store.rows,
        blobs=blobs,
        clients=clients,
        trace=trace,
        poisoned=frozenset(faults.poisoned),
    ).judge()
    trace.counts.update(summary(store.rows))
    trace.counts["quarantined"] += sum(row.quarantined for row in store.rows.live.values())
    trace.counts["questions"] += len(faults.calls)


async def found(scenario: Scenario, store: FakeStore) -> None:
    """Make the tenants."""
    for one in scenario.tenants:
        tenant = NewTenant(
            tenant_id=one.name,
            plan=one.plan,
            key=new_key(f"key-of-{one.name}", one.name),
            deposit=Micros(one.deposit),
            reference="first",
            operator="ops",
        )
        await store.create_tenant(tenant)


async def load(scenario: Scenario, clients: Client, trouble: Trouble) -> None:
    """Let the clients ask, and everything go wrong meanwhile; then all is well again."""
    trouble.gather()
    async with trio.open_nursery() as asking:
        for tenant in scenario.tenants:
            for _ in range(tenant.clients):
                asking.start_soon(clients.run, tenant)
        with trio.move_on_after(scenario.load_s):
            await trouble.rage()
        trouble.heal()


async def end_of_all(scenario: Scenario, store: FakeStore, fleet: Fleet, trace: Trace) -> None:
    """Wait until no run is open and no question under way; what is open for too long is told.

    What is asked in a silence of the store has no answer before its wall clock, though the store
    may answer all others long since: a reaper that asked then passes so much later.
    """
    bound_s = 2 * scenario.lease_s + scenario.interval_s + max(TIMEBOXES_S) + SLACK_S
    if "silence" in scenario.kinds:
        bound_s += WALL_S
    if {"blobs away", "blobs lose"} & scenario.kinds:
        bound_s += STORE_WAIT_S + scenario.lease_s
    bound_s += queue_s(scenario, store)
    until_at = trio.current_time() + bound_s
    while trio.current_time() < until_at:
        if not open_runs(store) and not fleet.air.flights:
            return
        await trio.sleep(LOOK_S)
    trace.violated("all is over within its time", f"{bound_s:g} s", named(open_runs(store)))


def open_runs(store: FakeStore) -> list[object]:
    """Return the live rows that somebody must still end."""
    return [row for row in store.rows.live.values() if not row.quarantined]


def queue_s(scenario: Scenario, store: FakeStore) -> float:
    """Return how long runs may wait for their turn: behind a cap, and for places on the nodes."""
    waiting = Counter(row.tenant_id for row in store.rows.live.values())
    rounds = max((-(-waiting[name] // cap) for name, cap in scenario.caps.items()), default=0)
    rounds += waiting.total() // (scenario.nodes * scenario.concurrency)
    return rounds * ATTEMPTS_MAX * (max(TIMEBOXES_S) + 1.0)


async def stop(scenario: Scenario, fleet: Fleet, trace: Trace) -> None:
    """Stop all nodes in order: there is nothing left that they would wait for.

    But for what was asked in a silence of the store: a lease that is being taken is waited for.
    """
    bound_s = STOP_S + (WALL_S if "silence" in scenario.kinds else 0.0)
    with trio.move_on_after(bound_s) as late:
        async with trio.open_nursery() as nursery:
            for name in fleet.up():
                nursery.start_soon(fleet.drain, name)
    if late.cancelled_caught:
        trace.violated("an idle node stops within its time", f"{bound_s:g} s")


@contextmanager
def counting(counts: Counter[str]) -> Iterator[None]:
    """Add what the product counted inside the block."""
    before = {name: value_of(*sample) for name, sample in COUNTED.items()}
    crashed = crashes()
    yield
    for name, sample in COUNTED.items():
        counts[name] += value_of(*sample) - before[name]
    counts["actor crashed"] += crashes() - crashed


def value_of(name: str, labels: Mapping[str, str]) -> int:
    """Return what a counter of the product says; one that nobody touched says 0."""
    return int(metrics.REGISTRY.get_sample_value(name, dict(labels)) or 0)


def crashes() -> int:
    """Return how often an actor was restarted after a bug, in this process."""
    samples = (one for metric in metrics.actor_restarts_total.collect() for one in metric.samples)
    return int(sum(one.value for one in samples))
