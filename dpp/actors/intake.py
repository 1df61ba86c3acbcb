"""The intake: whatever waits is admitted in one transaction, each submission with its own answer.

HTTP posts a submission and waits; the transaction is the intake's, so a client that disconnects
cancels its handler and nothing else. A submission that alone makes the store raise is answered by
that bug; nothing was written for it, and its neighbours are admitted.
"""

import logging
from collections.abc import Callable, Sequence
from math import inf
from uuid import UUID

import trio

from dpp.actors.hourglass import Hourglass
from dpp.actors.lane import Lane
from dpp.actors.lanes import Lanes
from dpp.actors.mailbox import Call, Mailbox, Waiter
from dpp.admission import Admission, Busy, Created, Exists, Submission
from dpp.faults import StoreUnavailable
from dpp.logs import are_written, get_logger
from dpp.ports import ItemBroken, Submissions

log = get_logger(__name__)


def carried(submission: Submission) -> int:
    """Return the bytes that a submission adds to its batch."""
    return len(submission.inputs)


class IntakeDesk(Lanes[Submission, Admission]):
    """Where HTTP hands submissions in; implements `dpp.ports.Intake`."""

    def __init__(self, lanes: int, capacity: int, wait_s: float = inf) -> None:
        """`capacity`: of each lane, in submissions; `wait_s`: how long one submission waits."""
        super().__init__(lanes, capacity, carried)
        self.hourglass = Hourglass(wait_s)

    async def submit(self, submission: Submission) -> Admission:
        """Wait for the admission; `StoreUnavailable` if full, closed or dropped: safe to retry.

        `Unanswered` is one: the time was up, and the submission may be admitted yet.
        """
        waiter = Waiter(1)
        self.hourglass.turn(waiter)
        return await self.of(submission.tenant_id).ask_nowait(submission, waiter)

    async def submit_batch(
        self, batch: Sequence[Submission]
    ) -> list[Admission | ItemBroken | None]:
        """Wait once for all admissions of one tenant's batch; None = not admitted, ask again."""
        if not batch:
            await trio.lowlevel.checkpoint()
            return []
        tenant_id = batch[0].tenant_id
        assert all(submission.tenant_id == tenant_id for submission in batch)
        calls = await self.of(tenant_id).ask_all_nowait(batch)
        return [admission(call) for call in calls]


def admission(call: Call[Submission, Admission]) -> Admission | ItemBroken | None:
    """Return what a call of a batch was answered; a fault is its item's, not the batch's."""
    try:
        return call.result()
    except StoreUnavailable:
        return None
    except Exception:  # noqa: BLE001 - a bug, which the intake has logged
        return ItemBroken()


async def intake(
    store: Submissions,
    queued: Callable[[str], None],
    mailbox: Mailbox[Submission, Admission],
    *,
    admitted: Callable[[UUID], object] = lambda _: None,
) -> None:
    """Admit what comes to one lane until it is closed.

    Of new runs that are due `queued` hears the tenants, and `admitted` each of them.
    """

    async def submit(batch: Sequence[Submission], *, wait: bool) -> list[Admission | Busy]:
        admissions = await store.submit_runs(batch, wait=wait)
        pairs = list(zip(batch, admissions, strict=True))
        tell([submission for submission, admission in pairs if is_new(submission, admission)])
        due = [submission for submission, a in pairs if is_new(submission, a) and is_due(a)]
        for tenant_id in {submission.tenant_id for submission in due}:
            queued(tenant_id)
        for submission in due:
            admitted(submission.run_id)
        return admissions

    await Lane(name="intake", mailbox=mailbox, verb=submit, alone=answer_bug).run()


def tell(created: Sequence[Submission]) -> None:
    """Leave a line for each new run, where anyone reads them."""
    if are_written(logging.DEBUG):
        for submission in created:
            log.debug("run admitted", **names(submission))


async def answer_bug(call: Call[Submission, Admission], bug: Exception) -> None:
    """Answer the one submission that the store cannot take; nothing was written for it."""
    log.critical("submission refused", **names(call.request), exc_info=bug)
    call.fail(bug)
    await trio.lowlevel.checkpoint()


def names(submission: Submission) -> dict[str, str]:
    """Return what a line about a submission carries."""
    return {
        "trace_id": submission.trace_id,
        "run_id": str(submission.run_id),
        "tenant_id": submission.tenant_id,
    }


def is_due(admission: Admission | Busy) -> bool:
    """Say whether a new run may be claimed now; the claimer's scan finds the others in time."""
    return not isinstance(admission, Created) or admission.available_at <= admission.created_at


def is_new(submission: Submission, admission: Admission | Busy) -> bool:
    """Say whether the submission made its run, at this try or at one whose COMMIT got no answer."""
    return isinstance(admission, Created) or admission == Exists(submission.run_id)
