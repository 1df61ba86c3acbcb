"""What goes wrong while the load lasts: one task for each kind of fault that the seed has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import trio
from attrs import define, field
from trio.testing import MockClock

from tests.fake_store import FakeStore
from tests.sim.blobs import SimBlobs
from tests.sim.fleet import Fleet, Life
from tests.sim.scenario import Scenario
from tests.sim.trace import Trace
from tests.sim.weather import Weather

HOLD_S = (0.2, 9.0)  # a frozen client's: past the 8 s that a batch waits for a row
WEATHER = {"slow": 0.5, "before": 0.03, "after": 0.03, "late": 0.03}  # shares of all questions


@define(eq=False, kw_only=True)
class Trouble:
    """All that can be hit."""

    scenario: Scenario
    clock: MockClock
    store: FakeStore
    blobs: SimBlobs
    fleet: Fleet
    weather: Weather
    trace: Trace
    held: set[str] = field(factory=set)

    def gather(self) -> None:
        """Begin what lasts as long as the load does."""
        kinds = self.scenario.kinds
        for kind, share in WEATHER.items():
            if kind in kinds:
                setattr(self.weather, kind, share)
        if "blobs lose" in kinds:
            self.blobs.losing, self.blobs.slow = 0.3, True

    async def rage(self) -> None:
        """Hit, for ever."""
        hits: dict[str, Callable[[Random], Awaitable[None]]] = {
            "outage": self.outage,
            "silence": self.silence,
            "kill": self.kill,
            "freeze": self.freeze,
            "drain": self.drain,
            "stall": self.stall,
            "held row": self.hold,
            "poison": self.poison,
            "blobs away": self.lose_blobs,
        }
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            for kind, hit in hits.items():
                if kind in self.scenario.kinds:
                    nursery.start_soon(self._repeat, hit, self.scenario.dice(kind))

    async def _repeat(self, hit: Callable[[Random], Awaitable[None]], dice: Random) -> None:
        while True:
            await trio.sleep(dice.expovariate(1 / self.scenario.lease_s))
            await hit(dice)

    def _some_s(self, dice: Random, least: float, most: float) -> float:
        """Draw a time, in leases."""
        return dice.uniform(least, most) * self.scenario.lease_s

    async def outage(self, dice: Random) -> None:
        """The store refuses everything for a while."""
        seconds = self._some_s(dice, 0.05, 1.5)
        self.trace.hit("outage", f"{seconds:.2f} s")
        self.store.faults.down = True
        await trio.sleep(seconds)
        self.store.faults.down = False

    async def silence(self, dice: Random) -> None:
        """The store answers nothing for a while."""
        seconds = self._some_s(dice, 0.05, 1.5)
        self.trace.hit("silence", f"{seconds:.2f} s")
        self.store.faults.silent = True
        await trio.sleep(seconds)
        self.store.faults.silent = False

    async def kill(self, dice: Random) -> None:
        """A node dies, and is started again a little later."""
        if up := self.fleet.up():
            name = dice.choice(up)
            self.trace.hit("kill", name)
            self.fleet.kill(name)
            await trio.sleep(self._some_s(dice, 0.0, 1.5))
            self.trace.hit("start", name)
            self.fleet.start(name)

    async def freeze(self, dice: Random) -> None:
        """A node neither sends nor receives, for a moment or past its lease."""
        if up := self.fleet.up():
            name = dice.choice(up)
            line, seconds = self.fleet.lives[name].line, self._some_s(dice, 0.1, 2.5)
            self.trace.hit("freeze", name, f"{seconds:.2f} s")
            line.freeze()
            await trio.sleep(seconds)
            line.thaw()

    async def drain(self, dice: Random) -> None:
        """A node is stopped in order, and started again."""
        if up := self.fleet.up():
            name = dice.choice(up)
            self.trace.hit("drain", name)
            await self.fleet.drain(name)
            self.fleet.start(name)

    async def stall(self, dice: Random) -> None:
        """No node runs for a while, and time goes on: they all wake at once."""
        seconds = self._some_s(dice, 0.1, 1.5)
        self.trace.hit("stall", f"{seconds:.2f} s")
        self.clock.jump(seconds)
        await trio.lowlevel.checkpoint()

    async def hold(self, dice: Random) -> None:
        """A client that froze keeps a tenant's budget row locked."""
        tenant_id = dice.choice(self.scenario.tenants).name
        if not self.store.faults.holds(tenant_id):
            self.trace.hit("held row", tenant_id)
            self.store.faults.hold(tenant_id)
            self.held.add(tenant_id)
            await trio.sleep(dice.uniform(*HOLD_S))
            self.store.faults.release(tenant_id)
            self.held.discard(tenant_id)

    async def poison(self, dice: Random) -> None:
        """The database refuses to end one run, or to take it back."""
        await trio.lowlevel.checkpoint()
        poisoned = self.store.faults.poisoned
        live = sorted(one for one in self.store.rows.live if one not in poisoned)
        if live:
            run_id = dice.choice(live)
            self.trace.hit("poison", run_id)
            self.store.faults.poisoned.add(run_id)

    async def lose_blobs(self, dice: Random) -> None:
        """The blob store cannot be asked for a while."""
        self.trace.hit("blobs away")
        self.blobs.away = "away"
        await trio.sleep(self._some_s(dice, 0.1, 2.5))
        self.blobs.away = ""

    def heal(self) -> None:
        """Let all be well from now on; whoever is down is started."""
        self.weather.clear()
        self.blobs.clear()
        self.store.faults.calm()
        for tenant_id in sorted(self.held):
            self.store.faults.release(tenant_id)
        for name, life in list(self.fleet.lives.items()):
            life.line.thaw()
            if name not in self.fleet.up():
                self.fleet.nursery.start_soon(self._start_after, name, life)
        self.trace.add("healed")

    async def _start_after(self, name: str, life: Life) -> None:
        """Start a node again that is dead, or once it has drained."""
        await life.dead.wait()
        self.fleet.start(name)
