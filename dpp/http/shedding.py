"""Shedding: submits of a tenant whose rate is used up are answered before the database is asked.

The exact limit is the intake's alone, in its transaction: it counts what was created, from the
first one. So no counter beside it can tell who is over, and none is kept here: what is remembered
is the intake's own word that a window is used up, and for how long; nodes hand it on to each other.
In that time nothing can be created, whoever counts.

Some go through all the same (`PASS_MAX` at once, `PASS_S` between two), since a known idempotency
key is answered even then, and the plan may have changed: a client that retries gets its run, a
flood is shed. What the intake answers to them is the newest word.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import ceil

import trio
from attrs import define, field

from dpp.admission import Admission, Created, RateLimited, Submission, Window
from dpp.faults import StoreUnavailable
from dpp.metrics import submits_shed_total
from dpp.plans import WINDOW_S
from dpp.ports import Intake, ItemBroken

PASS_MAX = 20  # items that may ask at once: what a client retries after a lost connection
PASS_S = 0.1  # from then on one in so long: a thousandth of what an intake takes
NAMES_MAX = 10_000  # tenants that are over at a time, about 2 MB
CLOCKS_S = 1.0  # by which two nodes may reckon the database's clock apart


@define
class Mark:
    """A window that is used up, by trio's clock. `next_at`: paces those let through.

    `known_at`: what was asked before it may be of an older window's count, and does not end it.
    """

    limit: int
    known_at: float
    ends_at: float
    sure_until: float  # that it has not ended
    next_at: float


@define(eq=False)
class Shedding:
    """An intake before the intake; implements `dpp.ports.Intake`.

    `database_ms`: the database's time, which all nodes know; `tell` hears of a tenant that is over,
    its limit, and until when by that time.
    """

    intake: Intake
    database_ms: Callable[[], int]
    tell: Callable[[str, int, int], None]
    _marks: dict[str, Mark] = field(factory=dict)

    async def submit(self, submission: Submission) -> Admission:
        """Wait for the admission, or say at once that the rate is used up."""
        refused = self._shed(submission.tenant_id, 1)
        if refused is not None:
            await trio.lowlevel.checkpoint()
            return refused
        asked_at = trio.current_time()
        admission = await self.intake.submit(submission)
        self._learn(submission.tenant_id, admission, asked_at)
        return admission

    async def submit_batch(
        self, batch: Sequence[Submission]
    ) -> list[Admission | ItemBroken | None]:
        """Do the same for one tenant's batch, as a whole: it has one answer."""
        refused = self._shed(batch[0].tenant_id, len(batch)) if batch else None
        if refused is not None:
            await trio.lowlevel.checkpoint()
            return [refused] * len(batch)
        asked_at = trio.current_time()
        admissions = await self.intake.submit_batch(batch)
        for submission, admission in zip(batch, admissions, strict=True):
            self._learn(submission.tenant_id, admission, asked_at)
        return admissions

    def heard(self, tenant_id: str, limit: int, until_ms: int) -> None:
        """Hear from another node that a tenant is over."""
        try:
            left_s = (until_ms - self.database_ms()) / 1000
        except StoreUnavailable:  # the time is not known yet
            return
        if CLOCKS_S < left_s <= WINDOW_S + CLOCKS_S and tenant_id not in self._marks:
            self._mark(tenant_id, limit, trio.current_time() + left_s, CLOCKS_S)

    def _shed(self, tenant_id: str, items: int) -> RateLimited | None:
        """Return the answer to a tenant that is over; None = ask the intake."""
        mark, now = self._marks.get(tenant_id), trio.current_time()
        if mark is None:
            return None
        if mark.sure_until <= now:
            del self._marks[tenant_id]
            return None
        if mark.next_at <= now:
            mark.next_at = max(mark.next_at, now - PASS_MAX * PASS_S) + items * PASS_S
            return None
        submits_shed_total.inc(items)
        left_s = mark.ends_at - now
        return RateLimited(Window(mark.limit, 0, max(ceil(left_s), 1), left_s))

    def _learn(
        self, tenant_id: str, admission: Admission | ItemBroken | None, asked_at: float
    ) -> None:
        """Take in what the intake says of the window; its end is reckoned from before it was asked.

        So a window may be over here a moment before it is there, and never after.
        """
        if not isinstance(admission, Created | RateLimited):
            return
        window = admission.window
        mark = self._marks.get(tenant_id)
        if window is None or window.remaining:
            if mark is not None and mark.known_at <= asked_at:
                del self._marks[tenant_id]
            return
        ends_at = asked_at + window.left_s
        if mark is not None:
            mark.limit, mark.ends_at, mark.sure_until = window.limit, ends_at, ends_at
            return
        self._mark(tenant_id, window.limit, ends_at, 0.0)
        left_ms = int(1000 * (ends_at - trio.current_time()))
        with suppress(StoreUnavailable):  # the time is not known yet
            self.tell(tenant_id, window.limit, self.database_ms() + left_ms)

    def _mark(self, tenant_id: str, limit: int, ends_at: float, doubt_s: float) -> None:
        if len(self._marks) >= NAMES_MAX:
            del self._marks[next(iter(self._marks))]
        now = trio.current_time()
        self._marks[tenant_id] = Mark(
            limit, now, ends_at, ends_at - doubt_s, now - PASS_MAX * PASS_S
        )
