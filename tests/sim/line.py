"""A node's line to the store, through the weather.

A question that was handed over goes on by itself, whoever has stopped waiting: that of a node which
froze arrives when it thaws, that of one which died arrives or does not. The order is: it is sent,
takes effect (in one step, see `Faults`), is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

import trio
from attrs import define, field

from dpp.faults import ClaimUnknown, StoreUnavailable
from dpp.runs import StoredResult
from dpp.settlement import End, LeaseLost, Settled
from tests.actors.world import Line
from tests.fake_store import FakeStore
from tests.sim.marks import mark
from tests.sim.telling import tell
from tests.sim.trace import Trace
from tests.sim.weather import FINE, Fate, Loss, Weather
from tests.sim.witness import Witness, Witnessed

Args: TypeAlias = tuple[Any, ...]
SENT_BY_THE_DEAD = 0.5  # of the questions under way when a node dies, what still arrives


@define(eq=False)
class Limbo:
    """Transactions whose COMMIT is on its way, by the lease row that they hold."""

    _leases: dict[UUID, trio.Event] = field(factory=dict)

    @contextmanager
    def hold(self, lease_id: UUID) -> Iterator[None]:
        """Keep the lease row locked for the block."""
        landed = self._leases[lease_id] = trio.Event()
        try:
            yield
        finally:
            landed.set()
            if self._leases.get(lease_id) is landed:
                del self._leases[lease_id]

    async def landed(self, lease_id: UUID) -> None:
        """Wait as who locks the row `for update`."""
        while (event := self._leases.get(lease_id)) is not None:
            await event.wait()


@define(eq=False)
class Air:
    """What the lines of all nodes share. `flights`: questions that have not landed."""

    trace: Trace
    weather: Weather
    faults: Witnessed
    witness: Witness
    limbo: Limbo = field(factory=Limbo)
    lost: dict[object, bool] = field(factory=dict)  # what was asked and not answered → did it land
    settled: set[tuple[str, UUID, int]] = field(
        factory=set
    )  # whose end committed: node and attempt
    flights: int = 0


class SimLine(Line):
    """One life's line. `cut`: the node is dead. `freeze`: nothing goes in or out until `thaw`."""

    def __init__(self, store: FakeStore, node: str, air: Air) -> None:
        super().__init__(store)
        self.node, self.air = node, air
        self.tenures = 0
        self._thawed: trio.Event | None = None

    @property
    def frozen(self) -> bool:
        return self._thawed is not None

    def freeze(self) -> None:
        """Let nothing in or out."""
        self._thawed = self._thawed or trio.Event()

    def thaw(self) -> None:
        """Let what was held go on."""
        if self._thawed is not None:
            self._thawed.set()
            self._thawed = None

    async def unfrozen(self) -> None:
        """Wait while the node is frozen."""
        while self._thawed is not None:
            await self._thawed.wait()

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        return partial(self.ask, verb)

    async def ask(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        """Ask the store; raises what the weather lets it raise."""
        if self.cut:
            await trio.sleep_forever()
        if verb == "end_runs":
            attempts = (end.fence for end in args[0])
            self.air.witness.over.update((one.run_id, one.lease_epoch) for one in attempts)
        fate = self.air.weather.fate(verb)
        flight = Flight(self, verb, args, kwargs, fate)
        if fate is FINE and not self.frozen and verb != "claimed_under":
            return await flight.touch()
        self.air.flights += 1
        trio.lowlevel.spawn_system_task(flight.carry)
        await flight.answered.wait()
        return flight.result()


@define(eq=False)
class Flight:
    """One question under way."""

    line: SimLine
    verb: str
    args: Args
    kwargs: dict[str, Any]
    fate: Fate
    answered: trio.Event = field(factory=trio.Event)
    answer: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """Return what was answered."""
        if self.error is not None:
            raise self.error
        return self.answer

    async def carry(self) -> None:
        """Take it there and back, whoever waits."""
        try:
            await self._go()
        except Exception as error:  # noqa: BLE001 - raised in who waits
            self.error = error
        finally:
            self.line.air.flights -= 1
        if not self.line.cut:
            self.answered.set()

    async def _go(self) -> None:
        line, air, fate = self.line, self.line.air, self.fate
        await trio.sleep(fate.before_s)
        await line.unfrozen()
        if line.cut and air.weather.dice.random() >= SENT_BY_THE_DEAD:
            air.trace.add(line.node, self.verb, "died with its node")
            return
        if self.verb == "claimed_under":
            await air.limbo.landed(self.args[0].lease_id)
        match fate.loss:
            case Loss.NONE:
                self.answer = await self.touch()
            case Loss.BEFORE:
                self._lose(landed=False)
            case Loss.AFTER:
                self._lose(landed=True, answer=await self.touch())
            case Loss.LATE:
                air.flights += 1
                trio.lowlevel.spawn_system_task(self._land_late)
                self._lose(landed=True)
        await trio.sleep(fate.after_s)
        await line.unfrozen()

    async def touch(self) -> Any:
        """Ask the store itself."""
        line, air = self.line, self.line.air
        asked = list(names(self.verb, self.args)) if air.lost else []
        air.faults.caller = line.node
        try:
            answer = await getattr(line.store, self.verb)(*self.args, **self.kwargs)
        except Exception as error:
            air.trace.add(line.node, self.verb, type(error).__name__)
            raise
        air.trace.add(line.node, self.verb, tell(answer))
        mark(air.trace.counts, self.verb, self.args, answer)
        if self.verb == "end_runs":
            self._compare(answer)
        if self.verb == "take_lease":
            air.trace.counts["a lease is lost"] += line.tenures > 0
            line.tenures += 1
        for name in asked:
            if name in air.lost:
                air.trace.counts[f"unknown, resolved: {'yes' if air.lost.pop(name) else 'no'}"] += 1
        return answer

    def _compare(self, answers: list[Any]) -> None:
        """Say of an attempt whose end committed that it did, however often it is asked.

        One with a stored result may be ended by the reconciler of the same node, and then again.
        """
        air = self.line.air
        for end, answer in zip(self.args[0], answers, strict=True):
            place = (self.line.node, end.fence.run_id, end.fence.lease_epoch)
            if isinstance(answer, Settled):
                air.settled.add(place)
            elif isinstance(answer, LeaseLost) and place in air.settled and not is_stored(end):
                air.trace.violated("an end that committed is told so", end)

    def _lose(self, *, landed: bool, answer: Any = None) -> None:
        """Raise what is told instead of `answer`."""
        line, air = self.line, self.line.air
        air.trace.hit(f"lost {self.fate.loss.name.lower()}", line.node, self.verb)
        for name in names(self.verb, self.args):
            air.lost[name] = air.lost.get(name, False) or landed
        if self.verb == "claim_runs" and (landed or air.weather.dice.random() < 1 / 2):
            some = "runs" if answer else "none"
            air.trace.counts[f"a claim that got no answer: it had taken {some}"] += 1
            raise ClaimUnknown("COMMIT got no answer")
        raise StoreUnavailable("no answer")

    async def _land_late(self) -> None:
        """Take effect although an error was told; the rows are locked until then."""
        line, faults = self.line, self.line.air.faults
        free = sorted({one for one in tenants(self.verb, self.args) if not faults.holds(one)})
        for tenant_id in free:
            faults.hold(tenant_id)
        with line.air.limbo.hold(lease_of(self.verb, self.args)):
            await trio.sleep(self.fate.late_s)
            for tenant_id in free:
                faults.release(tenant_id)
            faults.caller = f"{line.node}, late"
            try:
                answer = await getattr(line.store, self.verb)(*self.args, **self.kwargs)
            except Exception as error:  # noqa: BLE001 - it never came, or was refused: nobody hears
                answer = type(error).__name__
            else:
                line.air.trace.counts["landed after its error"] += 1
            line.air.trace.add(line.node, "late", self.verb, tell(answer))
        line.air.flights -= 1


NOBODY = UUID(int=0)


def is_stored(end: End) -> bool:
    """Say whether the result of this end lies in the blob store."""
    return isinstance(getattr(end.outcome, "result", None), StoredResult)


def lease_of(verb: str, args: Args) -> UUID:
    """Return the lease whose row a transaction keeps locked."""
    match verb:
        case "claim_runs":
            return args[0].lease.lease_id
        case "end_lease" | "renew_lease" | "take_lease":
            return args[0].lease_id
    return NOBODY


def tenants(verb: str, args: Args) -> Iterable[str]:
    """Return the tenants whose budget rows a transaction keeps locked."""
    match verb:
        case "submit_runs" | "end_runs" | "take_back" | "expire_runs":
            return (one.tenant_id for one in args[0])
        case "cancel_run":
            return (args[0],)
        case "post_transfer":
            return (args[0].tenant_id,)
    return ()


def names(verb: str, args: Args) -> Iterator[object]:
    """Yield the identities under which a question may be asked again."""
    match verb:
        case "submit_runs":
            yield from ((one.tenant_id, one.idempotency_key) for one in args[0])
        case "end_runs":
            yield from (one.ending_id for one in args[0])
        case "post_transfer":
            yield args[0].tenant_id, args[0].reference
        case "claim_runs":
            yield args[0].lease.lease_id
        case "claimed_under":
            yield args[0].lease_id
