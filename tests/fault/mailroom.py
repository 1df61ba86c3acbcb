"""Where a storm's webhooks arrive: each event is checked as it comes, and some are not taken.

Every tenant has one endpoint, behind a door of its own. While an event is in the mailroom's hands
its signature is verified by the library that receivers use, and the database is asked, past the
wires, whether its run has ended. Then it is taken; or, by the dice, it is answered 500, its answer
is lost, or the courier waits until it gives up. Now and then a door is shut for a while, and what
comes there is refused. All of that must come again, as the same bytes under the same id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field
from standardwebhooks import WebhookVerificationError

from dpp.outgoing.sender import SEND_S
from dpp.webhooks import BREAKER_S, EVENTS
from tests import receiver as acts
from tests.fault.door import Door, bound
from tests.fault.registry import AWAY, LOOK_S, Registry
from tests.node_client import connected
from tests.receiver import Connection, Received

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.fault.storm import Storm

# Of a hundred events; five failures in a row would open a breaker, and so few are very rarely that.
SHARES = {"500": 3.0, "lost": 3.0, "slow": 1.0}
FAULTS = (*SHARES, "refused")
GAVE_UP_S = SEND_S - 1  # who goes sooner was killed, or told to stop
SHUT_PAUSE_S = (15.0, 30.0)  # between two shut doors: each means a minute without that endpoint
SHUT_S = (1.0, 3.0)  # once something was refused: the other nodes shall meet it too
SHUT_MAX_S = 10.0  # PostgreSQL may be away, and nothing comes
ASK_S = SEND_S - 2  # PostgreSQL may be away for some seconds; the courier waits longer than this
HURRY_S = 1.0  # a node claims within it, and what it claims is sent and marked
EMPTY_S = 2 * BREAKER_S  # a breaker may just have opened, and half open it may fail once more
BLAMES_MAX = 3  # of a kind: a bug that is met at each event would say it a thousand times

REFUSED = """
select delivery_id, attempts from dpp.webhook_deliveries
 where webhook_id = $1::uuid and status = 'pending' and error = 'no connection'
"""
LEFT = """
select delivery_id, webhook_id, attempts, next_at, error from dpp.webhook_deliveries
 where status = 'pending' limit 3
"""
PENDING = "select count(*) from dpp.webhook_deliveries where status = 'pending'"
HURRY = """
with waiting as (
  select delivery_id from dpp.webhook_deliveries
   where status = 'pending' and next_at > dpp.now() for no key update skip locked)
update dpp.webhook_deliveries d set next_at = dpp.now()
  from waiting where d.delivery_id = waiting.delivery_id returning 1
"""


@define(eq=False)
class Event:
    """What came under one id. `taken`: it was answered 2xx, or was going to be."""

    tenant: str
    body: bytes
    times: int = 0
    taken: bool = False


@define(eq=False)
class Mailroom:
    """All doors, what came through them, and how often it was not taken."""

    storm: Storm
    dice: Random
    registry: Registry
    doors: list[Door] = field(factory=list)
    events: dict[str, Event] = field(factory=dict)
    requests: int = 0
    faults: Counter[str] = field(factory=Counter)
    unasked: int = 0  # PostgreSQL was away for too long: not taken either
    _calm: trio.Event = field(factory=trio.Event)
    _blames: Counter[str] = field(factory=Counter)

    # ── what comes ───────────────────────────────────────────────────────────────────────────────

    async def receive(self, door: Door, stream: trio.SocketStream) -> None:
        """Read a request, check it, and take it or not."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                request = await acts.read(stream)
                if request is not None:
                    one = Received(acts.now(), *request, None)
                    await self.answer(await self.check(door, one), Connection(stream))

    async def check(self, door: Door, one: Received) -> Event | None:
        """Look whether it may have been sent, and remember it; None = it is not taken."""
        self.requests += 1
        try:
            one.verify(door.secret)
        except WebhookVerificationError as wrong:
            self.blame("a signature is not valid", f"{wrong}: {one.headers} {one.body!r}")
            return None
        found = await self.registry.look(one.id, ASK_S)
        if found is None:
            self.unasked += 1
            return None
        event = self.events.setdefault(one.id, Event(door.tenant, one.body))
        event.times += 1
        if not found or not found[0]["ended"]:
            self.blame("an event was told before its commit", one.body)
        elif found[0]["status"] == "delivered" and not event.taken:
            self.blame("what nobody had taken was marked delivered", one.body)
        if (event.tenant, event.body) != (door.tenant, one.body):
            self.blame("one id, two events", f"{one.id}: {event.body!r}, {one.body!r}")
        return event

    async def answer(self, event: Event | None, connection: Connection) -> None:
        """Take it, unless the dice have something else in mind."""
        fault = self.throw()
        if event is None:
            await connection.answer(503)
        elif fault == "500":
            await connection.answer(500)
            self.faults[fault] += 1
        elif fault == "lost":
            await acts.lose(connection)
            self.faults[fault] += 1
        elif fault == "slow":
            self.faults[fault] += await self.outwait(connection)
        else:
            event.taken = True  # first: it may be heard although sending it fails
            await acts.OK(connection)

    def throw(self) -> str | None:
        """Return which fault comes; None = none."""
        rest = 100 - sum(SHARES.values())
        (fault,) = self.dice.choices([*SHARES, None], [*SHARES.values(), rest])
        return None if self._calm.is_set() else fault

    async def outwait(self, connection: Connection) -> bool:
        """Say nothing until the courier gives up, or it is calm; returns whether it gave up."""
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_when_calm, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError):
                await connection.stream.receive_some(1)
            nursery.cancel_scope.cancel()
        return trio.current_time() - began_at >= GAVE_UP_S

    async def _end_when_calm(self, scope: trio.CancelScope) -> None:
        await self._calm.wait()
        scope.cancel()

    # ── what happens to it ───────────────────────────────────────────────────────────────────────

    async def rage(self, seconds: float) -> None:
        """Shut one door after another; not in the last minute: so long a breaker stays open."""
        with trio.move_on_after(max(seconds - BREAKER_S, 0)):
            while True:
                await trio.sleep(self.dice.uniform(*SHUT_PAUSE_S))
                door = self.dice.choice(self.doors)
                async with door.shut():
                    self.faults["refused"] += await self.refused(door)
                    await trio.sleep(self.dice.uniform(*SHUT_S))

    async def refused(self, door: Door) -> int:
        """Wait until nodes were refused at this door; returns how many times they say they were."""
        before: set[Any] | None = None
        with trio.move_on_after(SHUT_MAX_S):
            while True:
                with suppress(*AWAY):
                    rows = await self.storm.ask(REFUSED, door.webhook_id)
                    now = {tuple(row) for row in rows}
                    if before is not None and now - before:
                        return len(now - before)
                    before = now if before is None else before
                await trio.sleep(LOOK_S)
        return 0

    def calm(self) -> None:
        """Take everything from now on."""
        self._calm.set()

    async def emptied(self) -> float:
        """Let all that waits be due until nothing does; returns how many seconds that took."""
        began_at = trio.current_time()
        with trio.move_on_after(EMPTY_S):
            while (await self.storm.ask(PENDING))[0][0]:
                await self.storm.ask(HURRY)
                await trio.sleep(HURRY_S)
            return trio.current_time() - began_at
        left = await self.storm.ask(LEFT)
        self.storm.blame(f"M11: not all was delivered {EMPTY_S} s later: {[*map(dict, left)]}")
        return trio.current_time() - began_at

    async def register(self, url: str, tenants: Mapping[str, str]) -> None:
        """Have an endpoint of each tenant; `tenants`: name → API key."""
        for door in self.doors:
            async with connected(url, tenants[door.tenant]) as client:
                asked = {"url": door.url, "events": [*EVENTS]}
                answer = await client.ask("POST", "/v1/webhooks", json=asked)
            assert answer.status_code == 201, answer.text
            made = answer.json()
            door.webhook_id, door.secret = made["webhook_id"], made["secret"]

    def blame(self, what: str, evidence: object) -> None:
        """Write down what must not be, the first few times."""
        self._blames[what] += 1
        if self._blames[what] <= BLAMES_MAX:
            self.storm.blame(f"M11: {what}: {evidence}")

    @property
    def table(self) -> dict[str, int]:
        """Return what was counted here; what begins with "webhook" must come in a long storm."""
        return {
            "webhook requests": self.requests,
            "webhook events": len(self.events),
            "webhook events that came again": sum(one.times > 1 for one in self.events.values()),
            **{f"webhook faults: {name}": self.faults[name] for name in FAULTS},
            "events not looked up, not taken": self.unasked,
        }


@asynccontextmanager
async def open_mailroom(
    storm: Storm, dice: Random, tenants: Sequence[str]
) -> AsyncIterator[Mailroom]:
    """Open a door for each tenant, for the length of the block."""
    registry = Registry(storm.bridge, storm.cluster.host)
    doors = [Door(name, await bound()) for name in tenants]
    mailroom = Mailroom(storm, dice, registry, doors)
    async with trio.open_nursery() as nursery:
        for door in doors:
            await nursery.start(door.serve, mailroom.receive, nursery)
        yield mailroom
        nursery.cancel_scope.cancel()
    for door in doors:
        door.guard.close()
    await registry.close()
