"""The settler: whatever has ended is settled in one transaction, each end with its own answer.

An end that alone makes the store raise would stop the settlers of every node in turn. So its run is
set aside with a finding, no money is touched, and an operator decides; only if even that fails does
the settler crash.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

from attrs import frozen

from dpp.actors.lane import Lane
from dpp.actors.lanes import Lanes
from dpp.actors.mailbox import Call, Mailbox
from dpp.admission import Busy
from dpp.claims import Seen
from dpp.logs import get_logger
from dpp.metrics import zombie_writes_refused_total
from dpp.ports import Settlements
from dpp.settlement import Completed, End, LeaseLost, Quarantined, Settled, Settlement

log = get_logger(__name__)


@frozen
class Ending:
    """An end, and the trace that its lines belong to."""

    end: End
    trace_id: str

    @property
    def tenant_id(self) -> str:
        return self.end.tenant_id


def carried(ending: Ending) -> int:
    """Return the bytes that an end adds to its batch."""
    match ending.end.outcome:
        case Completed(bytes() as result):
            return len(result)
    return 0


class SettlingDesk(Lanes[Ending, Settlement]):
    """Where executors hand ends in."""

    def __init__(self, lanes: int, capacity: int) -> None:
        """`capacity`: of each lane, in ends."""
        super().__init__(lanes, capacity, carried)

    async def settle(self, end: End, trace_id: str) -> Settlement:
        """Wait for a place and the settlement; `StoreUnavailable`: ask again, with the same end."""
        return await self.of(end.tenant_id).ask(Ending(end, trace_id))


async def settler(
    store: Settlements, ended: Callable[[UUID], None], mailbox: Mailbox[Ending, Settlement]
) -> None:
    """Settle what comes to one lane until it is closed; `ended` hears of each run that ended."""

    async def settle(batch: Sequence[Ending], *, wait: bool) -> list[Settlement | Busy]:
        settlements = await store.end_runs([ending.end for ending in batch], wait=wait)
        for ending, settlement in zip(batch, settlements, strict=True):
            if isinstance(settlement, Settled):
                ended(ending.end.fence.run_id)
            elif isinstance(settlement, LeaseLost):
                zombie_writes_refused_total.labels("end_runs").inc()
        return settlements

    async def quarantine(call: Call[Ending, Settlement], bug: Exception) -> None:
        ending = call.request
        kind = "write_refused"
        log.critical("ending refused", **names(ending), reconcile_type=kind, exc_info=bug)
        fence = ending.end.fence
        seen = Seen(fence.run_id, ending.end.tenant_id, fence.lease_id, fence.lease_epoch)
        aside = await store.quarantine_run(seen, evidence(ending.end, bug))
        call.answer(Quarantined() if aside else LeaseLost())  # somebody else had the run by then

    await Lane(name="settler", mailbox=mailbox, verb=settle, alone=quarantine).run()


def evidence(end: End, bug: Exception) -> dict[str, object]:
    """Return what an operator needs to decide about a run whose ending was refused."""
    return {
        "verb": "end_runs",
        "error": f"{type(bug).__name__}: {bug}",
        "ending_id": str(end.ending_id),
        "run_id": str(end.fence.run_id),
        "lease_id": str(end.fence.lease_id),
        "lease_epoch": end.fence.lease_epoch,
        "outcome": type(end.outcome).__name__,
        "charged_micros": getattr(end.outcome, "charged", 0),
    }


def names(ending: Ending) -> dict[str, str]:
    """Return what a line about an end carries."""
    return {
        "trace_id": ending.trace_id,
        "run_id": str(ending.end.fence.run_id),
        "tenant_id": ending.tenant_id,
    }
