"""The reaper: it takes back what others lost, and expires what nobody started.

A pass ends the transactions of frozen clients and deletes lapsed lease rows, then takes back every
run whose lease has no row, and every run whose deadline passed one lease ago: requeued with an
attempt spent, or ended free. Each take-back names what its scan saw. A pass goes on until a page is
not full; rows that it cannot take do not keep it from those behind them.

After an outage of the store, living nodes come first: they hand their runs back free with their
next lease, and the reaper waits one lease before it takes anything back.
"""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias

import trio
from attrs import define, field

from dpp.actors.batches import Refusals, commit
from dpp.actors.wake import Wake, when
from dpp.claims import Seen
from dpp.faults import StoreUnavailable
from dpp.leases import Lapse
from dpp.live import Live, Pace
from dpp.logs import get_logger
from dpp.metrics import (
    leases_reaped_total,
    reaper_scans_total,
    runs_taken_back_total,
    succeeded,
)
from dpp.ports import Reaping
from dpp.turns import turned

PAGES_MAX = 100  # a pass: 10,000 runs at the default page, then the next pass goes on at once
AGAIN_S = 0.25  # after a pass that met held rows: a batch of intake or settler holds one for less

Scan: TypeAlias = Callable[[int], Awaitable[list[Seen]]]
Take: TypeAlias = Callable[[Sequence[Seen]], Awaitable[int]]

log = get_logger(__name__)


class Reapable(Reaping, Protocol):
    """What the reaper asks of the store."""

    async def quarantine_run(self, seen: Seen, evidence: Mapping[str, Any]) -> bool: ...


@define
class Calm:
    """Whether the store has answered long enough for every living node to have handed back.

    A lease lapses in an outage that is longer than lease minus heartbeat, which is more than half a
    lease. Seen from here that is a silence of half a lease in which a question failed, or, where
    nothing was asked (this process was stopped), of an interval more. A process that begins knows
    nothing of before: the outage may have ended just now, and with it what kept this one from
    starting.
    """

    lease_s: float
    interval_s: float
    answered_at: float
    failed: bool = False
    waits_until: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.waits_until = self.answered_at + self.lease_s

    def answered(self, now: float) -> None:
        """Hear that the store answered."""
        silence_s = self.lease_s / 2 + (0 if self.failed else self.interval_s)
        if now - self.answered_at > silence_s:
            self.waits_until = now + self.lease_s
        self.answered_at, self.failed = now, False


async def reaper(
    store: Reapable,
    earlier_gone: trio.Event,
    calm: Calm,
    refusals: Refusals,
    freed: Callable[[], object],
    *,
    pace: Live[Pace],
    lease_s: float,
) -> None:
    """Pass at this pace, and once `earlier_gone`: this node's own runs of before it died.

    `calm` and `refusals` outlive this actor: a crash in an outage does not make it a short one.
    `freed` hears that runs were taken back: somebody here may claim them at once.
    """
    wake, reaping = Wake(), Passing(store, pace, lease_s, refusals, freed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(when, earlier_gone, wake.ring)
        while True:
            interval_s = pace.now.interval_s
            pause_s = min(AGAIN_S, interval_s) if reaping.left else interval_s
            # Never longer: a dead node's runs go on after its lease and this interval.
            await wake.wait(pause_s * random.uniform(0.8, 1.0))
            try:
                if await step(reaping, calm):
                    wake.ring()
            except StoreUnavailable as outage:  # here, not outside: how long it lasted matters
                calm.failed = True
                log.warning("store unavailable", actor="reaper", detail=str(outage))
                turned("reaper")


async def step(reaping: "Passing", calm: Calm) -> bool:
    """Make one pass; say whether it stopped before it was done."""
    reaping.left = False
    await reaping.store.end_frozen()
    expired = await reaping.expire()
    calm.answered(trio.current_time())
    is_calm = trio.current_time() >= calm.waits_until
    leases, taken = await reaping.take_back(is_calm=is_calm)
    if taken:
        reaping.freed()
    calm.answered_at = trio.current_time()
    succeeded("reaper")
    reaper_scans_total.inc()
    leases_reaped_total.inc(leases)
    runs_taken_back_total.labels("reaper").inc(taken)
    log.info("reaper scan", leases=leases, taken_back=taken, expired=expired)
    return max(leases, taken, expired) >= PAGES_MAX * reaping.scan_limit


@define(eq=False)
class Passing:
    """The parts of a pass, each a number of bounded pages; each returns what it dealt with."""

    store: Reapable
    pace: Live[Pace]
    lease_s: float
    refusals: Refusals
    freed: Callable[[], object]
    left: bool = False  # runs whose rows were held: they are for a pass soon

    @property
    def scan_limit(self) -> int:
        """Return how much a page looks at."""
        return self.pace.now.scan_limit

    async def expire(self) -> int:
        """End the runs that nobody started in time."""
        return await self._pages("expire", self.store.unstarted_runs, self.store.expire_runs)

    async def take_back(self, *, is_calm: bool) -> tuple[int, int]:
        """Take back what is nobody's; in calm also what lapsed leases hold, and what is overdue.

        An orphan's tenure is over for sure. Returns how many leases and runs.
        """
        take = partial(self.store.take_back, lapse=Lapse.LOST)
        if not is_calm:
            return 0, await self._pages("take_back", self.store.orphaned_runs, take)
        leases = 0
        leases_max = PAGES_MAX * self.scan_limit
        while leases < leases_max and await self.store.reap_lease() is not None:
            leases += 1
            turned("reaper")
        orphaned = await self._pages("take_back", self.store.orphaned_runs, take)
        overdue = partial(self.store.overdue_runs, grace_s=self.lease_s)
        return leases, orphaned + await self._pages("take_back", overdue, take)

    async def _pages(self, verb: str, scan: Scan, take: Take) -> int:
        """Take page after page until one is not full. What was not taken is passed over."""
        passed: set[Seen] = set()
        taken = 0

        async def take_page(page: Sequence[Seen]) -> None:
            nonlocal taken
            taken += await take(page)

        for _ in range(PAGES_MAX):
            limit = self.scan_limit + len(passed)
            turned("reaper")
            seen = await scan(limit)
            page = [run for run in seen if run not in passed]
            if page:
                before = taken
                await commit(take_page, page, partial(self._quarantine, verb), self.refusals)
                if taken - before < len(page):
                    passed.update(page)
                    self.left = True
            if len(seen) < limit:
                break
        return taken  # noqa: ASYNC910  # there is always a first page

    async def _quarantine(self, verb: str, run: Seen, bug: Exception) -> None:
        """Set aside the one run that the database refuses to take back or to end."""
        names = {"run_id": str(run.run_id), "tenant_id": run.tenant_id}
        kind = "write_refused"
        log.critical("recovery refused", **names, verb=verb, reconcile_type=kind, exc_info=bug)
        evidence = {
            "verb": verb,
            "error": f"{type(bug).__name__}: {bug}",
            "run_id": str(run.run_id),
            "lease_id": str(run.lease_id),
            "lease_epoch": run.lease_epoch,
        }
        await self.store.quarantine_run(run, evidence)
