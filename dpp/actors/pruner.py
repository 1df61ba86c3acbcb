"""The pruner: what is past retention leaves, batch by batch, and never the work in hand.

Each node makes a pass now and then; what another one is at is left to it. Of a tenant the bodies go
first, then the books are closed over what is old, then what is closed may leave.
"""

import random
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from dpp.faults import StoreUnavailable
from dpp.logs import get_logger
from dpp.metrics import pruned_total, succeeded
from dpp.ports import Pruning
from dpp.retention import Overdue
from dpp.turns import turned

FIRST_S = 5.0  # after the start of a node, which has better to do
PASS_S = 3600.0  # what is past retention is so for months: an hour is soon
TENANTS_PAGE = 1000  # a look: a few index probes each
FACTS_MAX = 2_000  # a closing: about 50 ms, and only other closings wait
RUNS_MAX = 200  # a pruning, under the tenant's budget lock: about 20 ms
BODIES_MAX = 500
KEYS_MAX = 1_000
OUTAGES_MAX = 3
REST = 4  # times as long as a batch took: then a fifth of one core of the server at most

log = get_logger(__name__)


@define(eq=False)
class Pruner:
    """One node's passes; what they did is counted."""

    store: Pruning
    _taken: dict[str, int] = field(factory=dict, init=False)
    _outages: int = field(default=0, init=False)  # running, of tenants

    async def step(self) -> None:
        """Make one pass over all tenants, then over the keys."""
        self._taken.clear()
        self._outages = 0
        after: str | None = ""
        while after is not None:
            page = await self.store.retention_due(after=after, limit=TENANTS_PAGE)
            for tenant in page:
                await self._try(tenant)
            after = page[-1].tenant_id if len(page) == TENANTS_PAGE else None
        await self._batches("keys", KEYS_MAX, lambda: self.store.forget_keys(most=KEYS_MAX))
        if self._taken:
            log.info("retention", **self._taken)

    async def _try(self, tenant: Overdue) -> None:  # noqa: ASYNC910 - `_tenant` waits
        """See to one tenant. What it fails by is its own: the others, and the node, go on.

        An outage of one may be a batch that takes too long; of a few running it is one of all.
        """
        try:
            await self._tenant(tenant)
        except StoreUnavailable as outage:
            self._outages += 1
            if self._outages >= OUTAGES_MAX:
                raise
            log.warning("retention put off", tenant_id=tenant.tenant_id, detail=str(outage))
        except Exception as bug:
            log.critical("retention refused", tenant_id=tenant.tenant_id, exc_info=bug)
        else:
            self._outages = 0

    async def _tenant(self, tenant: Overdue) -> None:
        name, store = tenant.tenant_id, self.store
        await trio.lowlevel.checkpoint()
        if tenant.bodies:
            await self._batches(
                "bodies", BODIES_MAX, lambda: store.prune_bodies(name, most=BODIES_MAX)
            )
        if tenant.closable:
            await self._batches(
                "facts_closed", FACTS_MAX, lambda: store.close_books(name, facts_max=FACTS_MAX)
            )
        if tenant.closable or tenant.prunable:
            await self._batches("pruned", RUNS_MAX, lambda: self._prune(name))

    async def _prune(self, tenant_id: str) -> int:
        taken = await self.store.prune(tenant_id, most=RUNS_MAX)
        self._count("runs", taken.runs)
        self._count("transfers", taken.transfers)
        return max(taken.runs, taken.transfers)

    async def _batches(self, what: str, most: int, batch: Callable[[], Awaitable[int]]) -> None:
        """Ask for batch after batch, with rests, until one is not full."""
        while True:
            began_at = trio.current_time()
            many = await batch()
            turned("pruner")
            self._count(what, many)
            if many < most:
                return
            await trio.sleep(REST * (trio.current_time() - began_at))

    def _count(self, what: str, many: int) -> None:
        if not many or what == "pruned":  # counted by its parts
            return
        pruned_total.labels(what).inc(many)
        self._taken[what] = self._taken.get(what, 0) + many


async def pruner(store: Pruning) -> None:
    """Make passes for as long as the node lives; an outage ends one."""
    work, pause_s = Pruner(store), FIRST_S
    while True:
        await trio.sleep(pause_s * random.uniform(0.9, 1.1))
        pause_s = PASS_S
        try:
            await work.step()
        except StoreUnavailable as outage:
            turned("pruner")
            log.warning("store unavailable", actor="pruner", detail=str(outage))
        else:
            succeeded("pruner")
