"""Settlement: a batch of ends and the locked rows → one settlement each; and who pays.

Pure, like admission: called while budget rows and live rows are locked, and by the fake store on
dictionaries. An end names the fence it saw and an `ending_id` made once by who decided it; asked
again after a lost answer, the same id in `endings` says that it committed, anything else that the
attempt was lost.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

from attrs import frozen

from dpp.leases import EndCanceled, EndFree, Fence, Lapse, Requeue, after_lapse
from dpp.money import ZERO, Micros
from dpp.runs import ErrorCode, Failure, Status, StoredResult


@frozen
class Completed:
    """The pack returned: its result as canonical JSON or where that lies, and what it charged."""

    result: bytes | StoredResult
    charged: Micros


@frozen
class FailedByItself:
    """The pack refused or raised, its time box passed here, or it reached its cost ceiling."""

    failure: Failure
    charged: Micros


@frozen
class CanceledWhileRunning:
    """A cancel was felt before the pack returned; it pays what it charged so far, no minimum."""

    charged: Micros


@frozen
class FailedByPlatform:
    """The attempt is nobody's but ours to pay: the run is tried again, or ends free."""

    detail: str
    code: ErrorCode = ErrorCode.INFRASTRUCTURE


Outcome: TypeAlias = Completed | FailedByItself | CanceledWhileRunning | FailedByPlatform


@frozen
class End:
    """An attempt that is over: its fence, what came of it, the id of the ending it asks for."""

    ending_id: UUID
    tenant_id: str
    fence: Fence
    outcome: Outcome


@frozen(kw_only=True)
class LiveRun:
    """A live row as it stands under the lock."""

    run_id: UUID
    tenant_id: str
    lease_id: UUID | None
    lease_epoch: int
    attempts_spent: int
    max_cost: Micros
    minimum_fee: Micros
    cancel_asked: bool
    quarantined: bool


@frozen(kw_only=True)
class Ending:
    """The resolution of a run, ready to be written: `cost + returned` is the reserve."""

    ending_id: UUID
    run_id: UUID
    tenant_id: str
    lease_id: UUID | None
    lease_epoch: int
    seq: int
    status: Status
    cost: Micros
    returned: Micros
    failure: Failure | None = None
    result: bytes | StoredResult | None = None

    @property
    def kind(self) -> str:
        """Return `settle` or `void`, as the ledger calls it."""
        by_itself = self.status is Status.COMPLETED or self.cost > 0 or (
            self.status is Status.FAILED
            and self.failure is not None
            and self.failure.code not in FREE
            and self.failure.code is not ErrorCode.RESOLVED_BY_OPERATOR  # that one may void, too
        )  # fmt: skip
        return "settle" if by_itself else "void"


FREE = frozenset({ErrorCode.LOST_LEASE, ErrorCode.STORE_UNAVAILABLE, ErrorCode.INFRASTRUCTURE})


@frozen
class Settled:
    """The run has ended by this end; `status` and `cost` are what its ending says."""

    status: Status
    cost: Micros


@frozen
class Requeued:
    """The platform failed the attempt, and the run waits again."""


@frozen
class LeaseLost:
    """Somebody else has the run, or it ended otherwise; nothing was written."""


@frozen
class Quarantined:
    """The database refused to end this run; it waits for an operator."""


Settlement: TypeAlias = Settled | Requeued | LeaseLost | Quarantined


@frozen
class Plan:
    """What one batch writes, and what it answers, item by item."""

    endings: tuple[Ending, ...]
    requeues: tuple[tuple[Fence, int], ...]
    settlements: tuple[Settlement, ...]


@frozen(kw_only=True)
class Rows:
    """What was read under the lock: live rows, endings of the others, each budget's last seq."""

    live: Mapping[UUID, LiveRun]
    ended: Mapping[UUID, "EndedRun"]
    seqs: Mapping[str, int]


@frozen
class EndedRun:
    """The ending that a run has already."""

    ending_id: UUID
    status: Status
    cost: Micros


def decide(batch: Sequence[End], rows: Rows, *, attempts_max: int) -> Plan:
    """Decide the batch in order of arrival; a run that appears twice is ended by the first."""
    seqs, live, ended = dict(rows.seqs), dict(rows.live), dict(rows.ended)
    endings: list[Ending] = []
    requeues: list[tuple[Fence, int]] = []
    settlements: list[Settlement] = []
    for end in batch:
        run = live.get(end.fence.run_id)
        if run is None or not held_by(run, end.fence):
            settlements.append(ended_already(end, ended.get(end.fence.run_id)))
            continue
        if run.quarantined:
            settlements.append(Quarantined())
            continue
        del live[run.run_id]
        decided = resolve(end, run, seqs[run.tenant_id] + 1, attempts_max)
        if isinstance(decided, Requeue):
            requeues.append((end.fence, decided.spent))
            settlements.append(Requeued())
        else:
            seqs[run.tenant_id] = decided.seq
            ended[run.run_id] = EndedRun(end.ending_id, decided.status, decided.cost)
            endings.append(decided)
            settlements.append(Settled(decided.status, decided.cost))
    assert len(settlements) == len(batch)
    return Plan(tuple(endings), tuple(requeues), tuple(settlements))


def held_by(run: LiveRun, fence: Fence) -> bool:
    """Say whether the attempt with this fence still holds the run."""
    return run.lease_id == fence.lease_id and run.lease_epoch == fence.lease_epoch


def ended_already(end: End, ended: EndedRun | None) -> Settlement:
    """Answer an end that holds no run: its own ending committed before, or it was lost."""
    if ended is not None and ended.ending_id == end.ending_id:
        return Settled(ended.status, ended.cost)
    return LeaseLost()


def resolve(end: End, run: LiveRun, seq: int, attempts_max: int) -> Ending | Requeue:
    """Turn an outcome into the run's ending: who pays, and how much of the reserve goes back."""
    match end.outcome:
        case Completed(result, charged):
            cost = covered(charged, run)
            return ending(run, end.ending_id, seq, Status.COMPLETED, cost, result=result)
        case FailedByItself(failure, charged):
            cost = Micros(max(covered(charged, run), run.minimum_fee))
            return ending(run, end.ending_id, seq, Status.FAILED, cost, failure=failure)
        case CanceledWhileRunning(charged):
            return ending(run, end.ending_id, seq, Status.CANCELED, covered(charged, run))
        case FailedByPlatform(detail, code):
            assert code in FREE, code
            failure = Failure(code, detail)
            return take_back(run, end.ending_id, seq, Lapse.LOST, attempts_max, failure)


def take_back(
    run: LiveRun,
    ending_id: UUID,
    seq: int,
    lapse: Lapse,
    attempts_max: int,
    failure: Failure | None = None,
) -> Ending | Requeue:
    """Decide what becomes of a run whose attempt is lost: it waits again, or ends at no cost.

    `failure`: what its ending says if attempts are used up; by default that the lease was lost.
    """
    taken = after_lapse(
        lapse,
        cancel_asked=run.cancel_asked,
        attempts_spent=run.attempts_spent,
        attempts_max=attempts_max,
    )
    match taken:
        case Requeue():
            return taken
        case EndCanceled():
            return ending(run, ending_id, seq, Status.CANCELED, ZERO)
        case EndFree(lost):
            return ending(run, ending_id, seq, Status.FAILED, ZERO, failure=failure or lost)


def covered(charged: Micros, run: LiveRun) -> Micros:
    """Return what a pack charged.

    Over the reserve is a bug of ours: nothing is clamped, the item is refused.
    """
    assert 0 <= charged <= run.max_cost, "a charge over the reserve got past ctx.charge"
    return charged


def ending(
    run: LiveRun,
    ending_id: UUID,
    seq: int,
    status: Status,
    cost: Micros,
    *,
    failure: Failure | None = None,
    result: bytes | StoredResult | None = None,
) -> Ending:
    """Build the ending of a locked live run, under the lease and epoch that it has."""
    return Ending(
        ending_id=ending_id,
        run_id=run.run_id,
        tenant_id=run.tenant_id,
        lease_id=run.lease_id,
        lease_epoch=run.lease_epoch,
        seq=seq,
        status=status,
        cost=cost,
        returned=Micros(run.max_cost - cost),
        failure=failure,
        result=result,
    )
