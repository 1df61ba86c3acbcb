"""Lanes: what intake and settler share. A tenant keeps to one lane, a lane keeps its tenants apart.

A lane drains its mailbox whole and asks a verb for the batch, without waiting for budget rows that
somebody holds. Items of such a tenant come back `Busy` and are *parked* in order of arrival; what
comes for that tenant later joins them. For a few parked tenants the lane asks in batches of their
own, which wait for the row; for the others it tries again with its next batch. So the order per
tenant holds, and no tenant waits for another's row.

A closed lane ends after all that is parked was answered. An outage or a bug of its own ends it at
once; every call in its hands is then dropped, which raises `StoreUnavailable` in the asker.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Generic, Protocol, TypeVar

import trio
from attrs import define, field

from dpp.actors.batches import Alone, commit
from dpp.actors.mailbox import Call, Mailbox
from dpp.admission import Busy
from dpp.faults import StoreUnavailable
from dpp.logs import get_logger
from dpp.metrics import batch_size

BATCH_MAX = 500  # they commit at 13-16,000/s, 100 at half of that; more hold their rows too long
BATCH_BYTES_MAX = 8 << 20  # 300 submissions of 1 MiB did not commit within the wall clock of 8 s
WAITING_MAX = 2  # tenants waited for at once: each holds a connection of the pool meanwhile
# Tries without waiting before a tenant is waited for: two actors that meet on a row are apart again
# in a few, and must not queue behind a frozen client for a place to wait.
FREE_TRIES = 10
PARKED_MAX = 2000  # calls: what comes for a row while a frozen client holds it, not for an outage
RETRY_S = 0.02  # between tries for tenants that nobody waits for: a few times what a commit takes


class OfTenant(Protocol):
    """A request that says whose it is."""

    @property
    def tenant_id(self) -> str: ...


Request = TypeVar("Request", bound=OfTenant)
Request_contra = TypeVar("Request_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)

log = get_logger(__name__)


class Verb(Protocol[Request_contra, Answer_co]):
    """One transaction for a batch; without `wait`, `Busy` for tenants whose row is held."""

    async def __call__(
        self, batch: Sequence[Request_contra], *, wait: bool
    ) -> Sequence[Answer_co | Busy]: ...


@define(eq=False, kw_only=True)
class Lane(Generic[Request, Answer]):
    """One lane; `run` is its actor, for one life of it."""

    name: str
    mailbox: Mailbox[Request, Answer]
    verb: Verb[Request, Answer]
    alone: Alone[Call[Request, Answer]]
    batch_max: int = BATCH_MAX
    waiting_max: int = WAITING_MAX
    parked_max: int = PARKED_MAX
    _in_hand: list[Call[Request, Answer]] = field(factory=list, init=False)
    _parked: dict[str, list[Call[Request, Answer]]] = field(factory=dict, init=False)
    _waited_for: dict[str, list[Call[Request, Answer]]] = field(factory=dict, init=False)
    _tries: Counter[str] = field(factory=Counter, init=False)  # in vain, of what is parked

    async def run(self) -> None:
        """Commit what comes, until the mailbox is closed and empty and nothing is parked."""
        try:
            async with trio.open_nursery() as waiting:
                while await self._step(waiting):
                    pass
        finally:
            for call in chain(self._in_hand, *self._waited_for.values(), *self._parked.values()):
                call.drop()  # no-op where answered

    async def _step(self, waiting: trio.Nursery) -> bool:
        """Deal with one batch; False = there will be no other."""
        new = await self._take()
        self._in_hand = [*self._unpark(), *self._join(new)]
        if not self._in_hand:
            return bool(new) or bool(self._parked) or not self.mailbox.closed
        busy: dict[str, list[Call[Request, Answer]]] = {}
        ask = partial(self._ask_in_order, busy)
        await commit(ask, self._in_hand, self.alone, self.mailbox.refusals)
        for tenant_id in {call.request.tenant_id for call in self._in_hand} - busy.keys():
            del self._tries[tenant_id]
        self._park(busy)
        self._in_hand = []
        self._wait_for_some(waiting)
        return True

    async def _take(self) -> list[Call[Request, Answer]]:
        """Return what is new, at the latest when it is time to try again; [] may mean closed."""
        if not self._parked:
            return await self.mailbox.take(self.batch_max, BATCH_BYTES_MAX)
        with trio.move_on_after(RETRY_S):
            if new := await self.mailbox.take(self.batch_max, BATCH_BYTES_MAX):
                return new
            await trio.sleep_forever()  # closed
        return []

    async def _ask_in_order(
        self,
        busy: dict[str, list[Call[Request, Answer]]],
        calls: Sequence[Call[Request, Answer]],
        *,
        wait: bool = False,
    ) -> None:
        """Ask for `calls`; sort into `busy` those of held tenants and whatever follows them."""
        free = [call for call in calls if call.request.tenant_id not in busy]
        later = [call for call in calls if call.request.tenant_id in busy]
        if free:
            await self._ask(busy, free, wait=wait)
        else:
            await trio.lowlevel.checkpoint()
        for call in later:
            busy[call.request.tenant_id].append(call)

    async def _ask(
        self,
        busy: dict[str, list[Call[Request, Answer]]],
        calls: Sequence[Call[Request, Answer]],
        *,
        wait: bool,
    ) -> None:
        """Ask the verb and answer; those of held tenants go to `busy`."""
        batch_size.labels(self.name).observe(len(calls))
        answers = await self.verb([call.request for call in calls], wait=wait)
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Busy):
                busy.setdefault(call.request.tenant_id, []).append(call)
            else:
                call.answer(answer)

    def _loose(self) -> list[str]:
        """Return the parked tenants that nobody waits for."""
        return [tenant_id for tenant_id in self._parked if tenant_id not in self._waited_for]

    def _unpark(self) -> list[Call[Request, Answer]]:
        """Take what may be tried again, oldest first, at most a batch."""
        taken: list[Call[Request, Answer]] = []
        for tenant_id in self._loose():
            calls = self._parked[tenant_id]
            room = self._fitting([*taken, *calls]) - len(taken)
            taken += calls[:room]
            self._parked[tenant_id] = calls[room:]
            if not calls[room:]:
                del self._parked[tenant_id]
        return taken

    def _fitting(self, calls: Sequence[Call[Request, Answer]]) -> int:
        """Return how many of these, from the first, make a batch."""
        return self.mailbox.fitting(calls, self.batch_max, BATCH_BYTES_MAX)

    def _join(self, new: Sequence[Call[Request, Answer]]) -> list[Call[Request, Answer]]:
        """Add calls of parked tenants to those that they must follow; return the others."""
        if not self._parked:
            return list(new)
        others: list[Call[Request, Answer]] = []
        for call in new:
            parked = self._parked.get(call.request.tenant_id)
            if parked is None:
                others.append(call)
            else:
                parked.append(call)
        self._drop_excess()
        return others

    def _park(self, busy: dict[str, list[Call[Request, Answer]]]) -> None:
        """Put the calls of held tenants where they came from: before what is parked of them."""
        for tenant_id, calls in busy.items():
            self._tries[tenant_id] += 1
            self._parked[tenant_id] = [*calls, *self._parked.get(tenant_id, ())]
        if busy:
            self._drop_excess()

    def _drop_excess(self) -> None:
        """Keep the bound: the newest of the tenant with the most goes first."""
        excess = sum(map(len, self._parked.values())) - self.parked_max
        for _ in range(excess):
            most = max(self._parked.values(), key=len)
            most.pop().drop()

    def _wait_for_some(self, waiting: trio.Nursery) -> None:
        patient = [one for one in self._loose() if self._tries[one] >= FREE_TRIES]
        for tenant_id in patient[: self.waiting_max - len(self._waited_for)]:
            self._waited_for[tenant_id] = []
            waiting.start_soon(self._wait_for, tenant_id)

    async def _wait_for(self, tenant_id: str) -> None:  # noqa: ASYNC910  # something is parked
        """Ask for one tenant alone, waiting for its row, until nothing of it is parked.

        The store may answer that it cannot be waited for now; then it is tried free again.
        """
        while parked := self._parked[tenant_id]:
            count = self._fitting(parked)
            self._parked[tenant_id] = parked[count:]
            calls = self._waited_for[tenant_id] = parked[:count]
            busy: dict[str, list[Call[Request, Answer]]] = {}
            try:
                ask = partial(self._ask_in_order, busy, wait=True)
                await commit(ask, calls, self.alone, self.mailbox.refusals)
            except StoreUnavailable as outage:  # of this row, as far as anyone knows
                names = {"actor": self.name, "tenant_id": tenant_id}
                log.warning("waited in vain", **names, detail=str(outage))
            again = busy.get(tenant_id, [])
            kept = set(map(id, again))
            for call in calls:
                if id(call) not in kept:
                    call.drop()  # no-op where answered
            if again:
                self._parked[tenant_id] = [*again, *self._parked[tenant_id]]
                break
        del self._tries[tenant_id], self._waited_for[tenant_id]
        if not self._parked[tenant_id]:
            del self._parked[tenant_id]
