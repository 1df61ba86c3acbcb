"""The nodes: each a seat, that is a node id, with one life after the other in it."""

from __future__ import annotations

from functools import partial
from random import Random

import trio
from attrs import define, field

from dpp.actors.ring import Ring
from tests.actors.world import World
from tests.fake_store import FakeStore
from tests.sim import script
from tests.sim.blobs import SimBlobs
from tests.sim.line import Air, SimLine
from tests.sim.scenario import DRAIN_S, STORE_WAIT_S, Scenario


@define(eq=False)
class Life:
    """One life of a node. `over`: its tasks have ended, whyever."""

    world: World
    line: SimLine
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    over: trio.Event = field(factory=trio.Event)
    dead: trio.Event = field(factory=trio.Event)


@define(eq=False, kw_only=True)
class Fleet:
    """All nodes of a simulation, on one store."""

    scenario: Scenario
    store: FakeStore
    blobs: SimBlobs
    air: Air
    nursery: trio.Nursery
    lives: dict[str, Life] = field(factory=dict)
    _born: int = 0

    @property
    def names(self) -> list[str]:
        return [f"node-{n}" for n in range(1, self.scenario.nodes + 1)]

    def up(self) -> list[str]:
        """Return the nodes that live and do not drain."""
        return [
            name
            for name, life in self.lives.items()
            if not life.dead.is_set() and not life.world.stopping.draining.is_set()
        ]

    def start(self, name: str) -> None:
        """Begin another life of this node: what was in memory is gone."""
        if name in self.lives:
            self.lives[name].line.thaw()  # whatever froze it has nothing to wake any more
        self._born += 1
        world = World(
            self.store,
            self.blobs,
            {script.PACK: script.follow},
            name,
            self.scenario.concurrency,
            lease_s=self.scenario.lease_s,
            heartbeat_s=self.scenario.heartbeat_s,
            interval_s=self.scenario.interval_s,
            drain_s=DRAIN_S,
            store_wait_s=STORE_WAIT_S,
            new_line=partial(SimLine, node=f"{name}#{self._born}", air=self.air),
            ring=Ring(Random(f"ring {self._born} of {self.scenario.seed}")),
        )
        assert isinstance(world.line, SimLine)
        life = self.lives[name] = Life(world, world.line)
        self.nursery.start_soon(self._live, life)

    async def _live(self, life: Life) -> None:
        try:
            with life.scope:
                await life.world.serve()
        except Exception as bug:  # noqa: BLE001 - a node must not end by itself
            self.air.trace.violated("no node ends by a fault", life.line.node, repr(bug))
        finally:
            life.dead.set()
            life.over.set()

    def kill(self, name: str) -> None:
        """End a life in the midst of whatever it does, as `kill -9` would."""
        life = self.lives[name]
        life.line.cut = True
        life.line.thaw()
        life.dead.set()
        life.scope.cancel(reason="killed")

    async def drain(self, name: str) -> None:
        """Ask a node to stop in order, and wait until it has."""
        life = self.lives[name]
        life.world.stopping.begin("asked to")
        await life.over.wait()
