"""The reconciler: runs that were left while their result was stored, and what nobody points to.

It asks the blob store for the object of the run's last attempt. Found and verified, the run is
settled by it. Missing, or found and not verified: the attempt is lost, and the run waits again or
ends free; the second is a finding, too. A store that cannot be asked decides nothing: the run waits
with it, and after `store_wait_s` a person is told.
"""

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import trio
from attrs import define, field

from dpp.actors.batches import Refusals, commit
from dpp.admission import Busy
from dpp.blobs import BlobKey, Blobs, CouldNotAsk, Found, Looked, Missing, NotVerified, belongs
from dpp.claims import LeftStoring
from dpp.faults import StoreUnavailable
from dpp.leases import Fence, Lapse
from dpp.live import Live, Pace
from dpp.logs import get_logger
from dpp.metrics import (
    reconcile_passes_total,
    reconciled_total,
    runs_taken_back_total,
    succeeded,
)
from dpp.ports import Reconciling
from dpp.runs import StoredResult
from dpp.settlement import Completed, End, Settled
from dpp.turns import turned

LOOK_S = 30.0  # an object of 64 MiB is read and hashed in a second; a disk that hangs is not asked
LOOKS_MAX = 8  # at once: what a node left behind is a hundred, and a bucket takes 50 ms for each
UNASKED_MAX = 3  # in a pass: a store that does not answer is asked again at the next one
DAY_S = 86_400.0  # longer than any attempt can still write
COLLECT_S = 3600.0
COLLECT_PAGE = 1000
AGAIN_S = 1.0  # after a pass that met held rows: each asks a store again

log = get_logger(__name__)


@define(eq=False, kw_only=True)
class Reconciler:
    """What one node knows of the runs that it could not decide."""

    store: Reconciling
    blobs: Blobs
    pace: Live[Pace]
    lease_s: float
    store_wait_s: float
    refusals: Refusals = field(factory=Refusals, init=False)
    is_held: bool = field(default=False, init=False)  # a row that a run needs: soon again
    _after: UUID | None = field(default=None, init=False)  # where the next pass goes on
    _unasked_since: dict[Fence, float] = field(factory=dict, init=False)

    async def step(self) -> None:  # noqa: ASYNC910  # there is always a first page
        """Make one pass over what was left; it goes on where the last one had to stop."""
        unasked, self.is_held = 0, False
        while unasked < UNASKED_MAX:
            limit = self.pace.now.scan_limit
            page = await self.store.storing_runs(
                after=self._after,
                limit=limit,
                grace_s=self.lease_s + self.store_wait_s,
            )
            for first in range(0, len(page), LOOKS_MAX):
                some = page[first : first + LOOKS_MAX]
                turned("reconciler")
                unasked += await self._reconcile_some(some)
                self._after = some[-1].seen.run_id
                if unasked >= UNASKED_MAX:
                    break
            else:
                if len(page) < limit:
                    self._after = None
                    return

    async def _reconcile_some(self, some: Sequence[LeftStoring]) -> int:
        """Decide some runs; returns of how many the store could not be asked.

        It is asked of all at once. They are ended one after the other: those of a tenant would meet
        at its budget.
        """
        looked: dict[UUID, Looked | CouldNotAsk] = {}

        async def look(left: LeftStoring) -> None:  # noqa: ASYNC910 - it was asked
            try:
                looked[left.seen.run_id] = await self._look(left, fence_of(left))
            except CouldNotAsk as unasked:
                looked[left.seen.run_id] = unasked

        async with trio.open_nursery() as nursery:
            for left in some:
                nursery.start_soon(look, left)
        return sum([not await self._decide(left, looked[left.seen.run_id]) for left in some])

    async def _decide(self, left: LeftStoring, there: Looked | CouldNotAsk) -> bool:
        """Decide one run; False = its store could not be asked."""
        await trio.lowlevel.checkpoint()
        fence = fence_of(left)
        if isinstance(there, CouldNotAsk):
            await self._wait(left, fence, there.why)
            return False
        self._unasked_since.pop(fence, None)
        await commit(partial(self._end, there), [left], self._quarantine, self.refusals)
        return True

    async def _look(self, left: LeftStoring, fence: Fence) -> Looked:
        key = BlobKey.of(left.seen.tenant_id, left.created_at, fence)
        with trio.move_on_after(LOOK_S):
            there = await self.blobs.look(key)
            return belongs(there, fence, left.max_cost) if isinstance(there, Found) else there
        raise CouldNotAsk(f"no answer within {LOOK_S:g} s")

    async def _wait(self, left: LeftStoring, fence: Fence, why: str) -> None:
        """Leave the run as it is; after `store_wait_s` open a finding."""
        await trio.lowlevel.checkpoint()
        since = self._unasked_since.setdefault(fence, trio.current_time())
        log.warning("blob store could not be asked", **names(left), detail=why)
        if trio.current_time() - since >= self.store_wait_s:
            await self._find("object_not_asked", left, {"why": why})

    async def _end(self, there: Looked, lefts: Sequence[LeftStoring]) -> None:
        (left,) = lefts
        await trio.lowlevel.checkpoint()
        match there:
            case Found():
                await self._roll_forward(left, there)
            case Missing():
                await self._roll_back(left, "missing")
            case NotVerified(why):
                await self._find("object_not_verified", left, {"why": why})
                await self._roll_back(left, "not_verified")

    async def _roll_forward(self, left: LeftStoring, found: Found) -> None:
        """Settle the run by its object."""
        fence, metadata = fence_of(left), found.metadata
        key = BlobKey.of(left.seen.tenant_id, left.created_at, fence)
        outcome = Completed(StoredResult(key.name, metadata.sha256), metadata.cost)
        end = End(uuid4(), left.seen.tenant_id, fence, outcome)
        (answer,) = await self.store.end_runs([end], wait=False)
        self.is_held |= isinstance(answer, Busy)
        if isinstance(answer, Settled):
            reconciled_total.labels("rolled_forward").inc()
            log.warning("run rolled forward", **names(left), cost_micros=metadata.cost)

    async def _roll_back(self, left: LeftStoring, outcome: str) -> None:
        """Let the run wait again, or end it free; a row that is held is for the next pass."""
        if await self.store.take_back([left.seen], Lapse.LOST, storing=True):
            reconciled_total.labels(outcome).inc()
            runs_taken_back_total.labels("reconciler").inc()
            log.warning("run taken back", **names(left), object=outcome)
        else:  # held, or gone
            self.is_held = True

    async def _quarantine(self, left: LeftStoring, bug: Exception) -> None:
        """Set aside the one run that the database refuses to end."""
        kind = "write_refused"
        log.critical("reconciling refused", **names(left), reconcile_type=kind, exc_info=bug)
        evidence = {"verb": "reconcile", "error": f"{type(bug).__name__}: {bug}", **names(left)}
        await self.store.quarantine_run(left.seen, evidence)

    async def _find(self, invariant: str, left: LeftStoring, evidence: Mapping[str, Any]) -> None:
        told = {**names(left), **evidence, "lease_epoch": left.seen.lease_epoch}
        seen = left.seen
        if await self.store.open_finding(invariant, str(seen.run_id), seen.tenant_id, told):
            log.critical("AUDIT_REQUIRED", reconcile_type=invariant, **told)


async def reconciler(work: Reconciler) -> None:
    """Make passes for ever; an outage of the store ends a pass, and the next goes on."""
    while True:
        interval_s = work.pace.now.interval_s
        pause_s = min(AGAIN_S, interval_s) if work.is_held else interval_s
        await trio.sleep(pause_s * random.uniform(0.9, 1.1))
        try:
            await work.step()
        except StoreUnavailable as outage:  # here, not outside: how long a store was silent matters
            log.warning("store unavailable", actor="reconciler", detail=str(outage))
            turned("reconciler")
        else:
            succeeded("reconciler")
            reconcile_passes_total.inc()


async def collector(store: Reconciling, blobs: Blobs) -> None:
    """Delete objects that nothing points to, a day after they were written."""
    while True:
        await trio.sleep(COLLECT_S * random.uniform(0.9, 1.1))
        after: str | None = ""
        while after is not None:
            page = await blobs.collect(
                older_than_s=DAY_S, keep=store.kept_objects, after=after, limit=COLLECT_PAGE
            )
            after = page.after
            turned("collector")
            if page.deleted or page.torn or page.refused:
                log.info(
                    "objects collected", deleted=page.deleted, torn=page.torn, refused=page.refused
                )
        succeeded("collector")


def fence_of(left: LeftStoring) -> Fence:
    """Return the fence that the run was left under."""
    assert left.seen.lease_id is not None, "what stores a result is leased"
    return Fence(left.seen.run_id, left.seen.lease_id, left.seen.lease_epoch)


def names(left: LeftStoring) -> dict[str, str]:
    """Return what a log line says of a run."""
    return {"run_id": str(left.seen.run_id), "tenant_id": left.seen.tenant_id}
