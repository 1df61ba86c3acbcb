"""The courier: it takes events out of the outbox and brings them to who asked for them.

Due deliveries are claimed in one short transaction, which hides them for a while; each is posted
under its limits, and what became of it is written down, many at once. A node that dies in between
leaves rows that come again: at least once, under the same id. Nothing but committed rows is ever
sent: a wake-up says only that there may be some.

Of each endpoint a few are on their way at once, of each tenant some, and all together a bounded
number; an endpoint that fails again and again is left alone for a while, and loses no attempt by
that; one that is slow again and again has its events one by one.
"""

import math
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import trio
from attrs import define, field

from dpp import failpoints, metrics, webhooks
from dpp.actors.batches import Refusals, commit
from dpp.actors.wake import Wake
from dpp.faults import StoreUnavailable
from dpp.logs import get_logger
from dpp.metrics import succeeded
from dpp.outgoing.sender import SEND_S, Answered, Outcome
from dpp.ports import Outbox
from dpp.turns import turned
from dpp.webhooks import Attempted, Breaker, Due

IN_FLIGHT_MAX: Final = 200  # of a node: each is a connection, and a TLS session of some 50 KiB
# Of a node: what a small server takes at once, and enough for 40 events a second where a send
# takes a quarter of one.
PER_ENDPOINT: Final = 10
# Of all endpoints of a tenant: five at their most, 200 events a second. A tenant may have twenty,
# and where all of them hang they would else have every place until their breakers open, and after
# each restart again.
PER_TENANT: Final = IN_FLIGHT_MAX // 4
# Hidden after a claim: the send, and the transactions around it at their slowest.
HOLD_S: Final = SEND_S + 20.0
IDLE_S: Final = 1.0  # what a lost wake-up costs
GAP_S: Final = 0.1  # between two claims that found nothing: runs end all the time
AGE_S: Final = 10.0  # between two looks at how long deliveries have been due
BREAKERS_MAX: Final = 10_000  # endpoints that failed last: past that the longest ago is forgotten
DRAIN_S: Final = 2.0  # for what is left of the outbox when the node drains

log = get_logger(__name__)


class Post(Protocol):
    """Who sends."""

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Awaitable[Outcome]: ...


@define(eq=False, kw_only=True)
class Courier:
    """What one node has on its way, and what it knows of endpoints; it outlives crashes."""

    store: Outbox
    post: Post
    wake: Wake = field(factory=Wake)
    _marking: Wake = field(factory=Wake, init=False)
    # By tenant and endpoint, until marked.
    _sending: Counter[tuple[str, UUID]] = field(factory=Counter, init=False)
    _breakers: OrderedDict[UUID, Breaker] = field(factory=OrderedDict, init=False)
    _marks: list[Attempted] = field(factory=list, init=False)
    _refusals: Refusals = field(factory=Refusals, init=False)
    _after: UUID | None = field(default=None, init=False)  # whose turn it was last
    _from: UUID | None = field(default=None, init=False)  # where the next round begins
    _finishing: bool = field(default=False, init=False)
    _finished: trio.Event = field(factory=trio.Event, init=False)
    _aged_at: float = field(default=float("-inf"), init=False)

    @property
    def busy(self) -> int:
        """Return how many deliveries are on their way, or not marked yet."""
        return self._sending.total()

    def ring(self) -> None:
        """Hear that there may be something to send."""
        self.wake.ring()

    async def finish(self) -> None:
        """Let what is due be sent, and no more, then be over; whoever asks bounds the wait."""
        self._finishing = True
        self.wake.ring()
        await self._finished.wait()

    async def run(self) -> None:
        """Claim and send until told to finish."""
        self._sending.clear()  # of a life before a crash: those come again
        self._marks.clear()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_marking)
                await self._keep_claiming(nursery)
                nursery.cancel_scope.cancel(reason="nothing left to send")
        finally:
            if self._finishing:
                self._finished.set()

    async def _keep_claiming(self, nursery: trio.Nursery) -> None:
        """Claim as long as there is something; what is on its way runs in `nursery`."""
        while True:
            try:
                more = await self.step(nursery)
                await self._look_at_age()
            except StoreUnavailable as outage:  # here, not outside: what was sent is to be marked
                log.warning("store unavailable", actor="courier", detail=str(outage))
                turned("courier")
                more = False
            else:
                succeeded("courier")
            if more:
                continue
            if self._finishing and not self._sending:
                return  # noqa: ASYNC910 - a claim was asked, whatever came of it
            if not self._sending:  # else it is a mark that wakes it, and there are few
                await trio.sleep(GAP_S)
            await self.wake.wait(IDLE_S * random.uniform(0.5, 1.0))

    async def step(self, nursery: trio.Nursery) -> bool:
        """Claim once and send what was claimed; say whether others wait that had no turn."""
        await trio.lowlevel.checkpoint()
        room = IN_FLIGHT_MAX - self.busy
        if not room:
            return False
        claimed = await self.store.claim_deliveries(
            rooms=self._rooms(trio.current_time()),
            per_endpoint=PER_ENDPOINT,
            tenant_rooms={name: PER_TENANT - sending for name, sending in self._tenants().items()},
            per_tenant=PER_TENANT,
            after=self._after,
            limit=room,
            hold_s=HOLD_S,
        )
        now = trio.current_time()
        for due in claimed:
            self._sending[due.tenant_id, due.webhook_id] += 1
            nursery.start_soon(self._deliver, due, now)
        return self._go_on(claimed, room)

    def _go_on(self, claimed: Sequence[Due], room: int) -> bool:
        """Settle whose turn is next; say whether it is now.

        Endpoint by endpoint: who is after the last one had no turn yet, where there was no room for
        more or none for its tenant. Those have it first in the next round, when there is.
        """
        sending = self._tenants()
        cut = any(sending[due.tenant_id] >= PER_TENANT for due in claimed)
        whole = self._after is None
        if cut or len(claimed) == room:
            self._after = max(due.webhook_id for due in claimed)
            self._from = self._after if cut else self._from
            return True
        self._after = None
        if not whole:
            return True
        if max(sending.values(), default=0) < PER_TENANT:
            self._from = None  # nothing was left for want of room
        self._after = self._from
        return False

    def _tenants(self) -> Counter[str]:
        """Return how many are on their way, by tenant."""
        tenants: Counter[str] = Counter()
        for (tenant_id, _webhook_id), sending in self._sending.items():
            tenants[tenant_id] += sending
        return tenants

    def _rooms(self, now: float) -> dict[UUID, int]:
        """Return how many more may be on their way, for each endpoint where that is not usual."""
        rooms = {
            webhook_id: breaker.room(now, PER_ENDPOINT)
            for webhook_id, breaker in self._breakers.items()
        }
        for (_tenant_id, webhook_id), sending in self._sending.items():
            rooms[webhook_id] = max(rooms.get(webhook_id, PER_ENDPOINT) - sending, 0)
        return {webhook_id: room for webhook_id, room in rooms.items() if room < PER_ENDPOINT}

    async def _deliver(self, due: Due, claimed_at: float) -> None:
        """Send one delivery; whatever happens to it is its own affair."""
        began = trio.current_time()
        try:
            mark = await self._attempt(due, claimed_at)
        except Exception:
            await trio.lowlevel.checkpoint()
            log.exception("delivery failed here", **names(due))
            mark = webhooks.judge(due, None, "internal", random.random())
        self._learn(mark, trio.current_time() - began)
        self._marks.append(mark)
        self._marking.ring()

    async def _attempt(self, due: Due, claimed_at: float) -> Attempted:
        body = webhooks.payload(due)
        # The database's time at the claim, counted on here: no clock of this machine is in it.
        unix_s = due.now.timestamp() + trio.current_time() - claimed_at
        failpoints.hit("courier.before_post")
        answer = await self.post(due.url, webhooks.headers(due, int(unix_s), body), body)
        failpoints.hit("courier.after_post")
        status, why = (answer.status, None) if isinstance(answer, Answered) else (None, answer.why)
        return webhooks.judge(due, status, why, random.random())

    def _learn(self, mark: Attempted, took_s: float) -> None:
        """Take in what an attempt says of its endpoint."""
        before, now = self._breakers.pop(mark.webhook_id, Breaker()), trio.current_time()
        after = before.after(delivered=mark.delivered, took_s=took_s, now=now)
        if after != Breaker():
            self._breakers[mark.webhook_id] = after
            if len(self._breakers) > BREAKERS_MAX:
                self._breakers.popitem(last=False)
        if after.half_open_at is not None and before.half_open_at is None:
            log.info(
                "webhook left alone",
                webhook_id=str(mark.webhook_id),
                for_s=after.half_open_at - now,
                slow=mark.delivered,
            )

    async def _keep_marking(self) -> None:
        """Write down what became of attempts, all that is known by then, in one transaction."""
        while True:
            await self._marking.wait(math.inf)  # only this actor rings it, and while it runs
            if not self._marks:
                continue
            try:
                await commit(self._mark, [*self._marks], self._give_up, self._refusals)
            except StoreUnavailable as outage:  # what is known stays known
                log.warning("store unavailable", actor="courier", detail=str(outage))
                await trio.sleep(GAP_S)
                self._marking.ring()
            self.wake.ring()  # there is room again

    async def _mark(self, marks: Sequence[Attempted]) -> None:
        """Write these down, and let their endpoints have others."""
        for webhook_id in await self.store.mark_deliveries(marks):
            log.warning("webhook disabled", webhook_id=str(webhook_id))
        for mark in marks:
            metrics.webhook_deliveries_total.labels(mark.outcome).inc()
            self._over(mark)

    async def _give_up(self, mark: Attempted, bug: Exception) -> None:
        """Leave a delivery that the database refuses to mark: it is sent again, to its last try."""
        await trio.lowlevel.checkpoint()
        log.error("delivery not marked", delivery_id=str(mark.delivery_id), exc_info=bug)
        self._over(mark)

    def _over(self, mark: Attempted) -> None:
        """Forget an attempt."""
        self._marks.remove(mark)
        place = mark.tenant_id, mark.webhook_id
        self._sending[place] -= 1
        if not self._sending[place]:
            del self._sending[place]

    async def _look_at_age(self) -> None:
        """Look, now and then, at how long deliveries have been due."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        if now >= self._aged_at + AGE_S:
            self._aged_at = now
            metrics.webhook_pending_age_seconds.set(await self.store.due_delivery_age())


def names(due: Due) -> dict[str, str]:
    """Return what a line about a delivery carries."""
    return {
        "delivery_id": str(due.delivery_id),
        "webhook_id": str(due.webhook_id),
        "run_id": str(due.run_id),
        "tenant_id": due.tenant_id,
    }
