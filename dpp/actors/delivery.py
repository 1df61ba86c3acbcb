"""Delivery: a result too large for its row lies in the blob store before its run is settled.

The run is marked first: from then on it is the reconciler's, if this node dies, and the object
tells what the attempt came to. The pack has returned by now, so neither a cancel nor the time box
changes the outcome any more; a store that gives no answer for too long is the platform's fault.
"""

from functools import partial

import trio
from attrs import evolve, frozen

from dpp import failpoints
from dpp.actors.asking import until_answered
from dpp.blobs import BlobKey, Blobs, Label, Stored
from dpp.claims import Claimed
from dpp.faults import PageBroken, StoreBroken
from dpp.logs import get_logger
from dpp.ports import Storing
from dpp.runs import ErrorCode, StoredResult
from dpp.settlement import Completed, FailedByPlatform, LeaseLost, Outcome

log = get_logger(__name__)


@frozen(kw_only=True)
class Delivery:
    """Where results go: up to `inline_max_bytes` into their row, beyond it to `blobs`."""

    store: Storing
    blobs: Blobs
    inline_max_bytes: int
    wait_s: float

    async def deliver(self, claimed: Claimed, outcome: Outcome) -> Outcome | LeaseLost:
        """Return the outcome to settle; `LeaseLost` = the run is somebody else's by now."""
        if (
            not isinstance(outcome, Completed)
            or isinstance(outcome.result, StoredResult)
            or len(outcome.result) <= self.inline_max_bytes
        ):
            await trio.lowlevel.checkpoint()
            return outcome
        with trio.move_on_after(self.wait_s):
            return await self._put(claimed, outcome, outcome.result)
        detail = f"its result could not be stored within {self.wait_s:g} s"
        return FailedByPlatform(detail, ErrorCode.STORE_UNAVAILABLE)

    async def _put(
        self, claimed: Claimed, completed: Completed, body: bytes
    ) -> Outcome | LeaseLost:
        mark = partial(self.store.mark_storing, claimed.fence)
        try:
            marked = await until_answered("mark_storing", mark)
        except PageBroken as broken:
            return refused(claimed, broken)  # noqa: ASYNC910 - it was asked
        except StoreBroken:
            raise
        except Exception as bug:  # noqa: BLE001 - one row that is refused ends no other run
            return refused(claimed, bug)  # noqa: ASYNC910 - it was asked
        if not marked:
            return LeaseLost()
        failpoints.hit("deliver.after_mark")
        key = BlobKey.of(claimed.tenant_id, claimed.created_at, claimed.fence)
        label = Label(
            lease_id=claimed.fence.lease_id,
            pack_type=claimed.pack_type,
            cost=completed.charged,
        )
        there = await until_answered("put", partial(self.blobs.put, key, label, body))
        failpoints.hit("deliver.after_put")
        if not isinstance(there, Stored):
            log.error("another object lies where the result belongs", key=key.name)
            return FailedByPlatform("another object lies where its result belongs")
        return evolve(completed, result=StoredResult(key.name, there.metadata.sha256))


def refused(claimed: Claimed, bug: Exception) -> Outcome:
    """Fail an attempt free whose row could not be marked: settling retries it or sets it aside."""
    log.critical("storing mark refused", run_id=str(claimed.fence.run_id), exc_info=bug)
    return FailedByPlatform("its row could not be marked")
