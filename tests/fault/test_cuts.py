"""A connection cut before each message of a transaction, either way: the verb tells the truth.

Places are counted from BEGIN to the answer to COMMIT, the client's messages and the server's: what
is cut off at a message of the server's was done there, and nobody heard of it. After each cut the
verb is asked again until it is definite; it has happened once. Both judges look at the books in the
end, and no cancel request may have passed.

A pass takes every second place, the odd ones or the even ones by `DPP_TEST_SEED`, with statements
that are prepared already; `DPP_CUTS=all` takes all, and fresh connections too, which prepare them.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
import trio
from attrs import define, field

from dpp.admission import Created, Exists
from dpp.claims import Claimed, Seen
from dpp.faults import ClaimUnknown, StoreUnavailable
from dpp.leases import Lapse
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import LeaseLost, Settled
from dpp.store import desk
from tests.store.examples import DOLLAR, LEASE_S, end, ids, submission
from tests.store.sessions import LOOK_S, SOON_S
from tests.store.steps import (
    begin,
    claim_of,
    create,
    make_tenant,
    read,
    take_lease,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dpp.leases import NodeLease
    from dpp.store.postgres import PostgresStore
    from tests.fault.scissors import Scissors

COST = DOLLAR // 10
SETTLED = Settled(Status.COMPLETED, Micros(COST))
ALL = os.environ.get("DPP_CUTS") == "all"
FRESH = [False, True] if ALL else [False]
SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
FIRST, STEP = (1, 1) if ALL else (1 + SEED % 2, 2)
PLACES_MIN = 12  # BEGIN, two statements and COMMIT have more messages than that
BRIEF_S = 0.001  # a lease that has lapsed by the next statement


@define(eq=False)
class Cutting:
    """A store that is cut, its calm twin, and which answers came."""

    cut: PostgresStore
    calm: PostgresStore
    scissors: Scissors
    lease: NodeLease
    answers: set[str] = field(factory=set)

    async def submit(self) -> None:
        """The run is there once, whether the first answer came through or another one."""
        one = submission(max_cost=COST)

        (answer,) = await self.cut.submit_runs([one], wait=True)

        assert isinstance(answer, Created | Exists)
        assert answer.run_id == one.run_id
        self.answers.add(type(answer).__name__)
        assert await self.calm.submit_runs([one], wait=True) == [Exists(one.run_id)]
        await self.end_it(one.run_id)

    async def claim(self) -> None:
        """What was claimed is told once it is asked for; nothing is claimed twice."""
        one = await create(self.calm, max_cost=COST)

        try:
            claimed = await self.cut.claim_runs(claim_of(self.lease))
            self.answers.add("told")
        except ClaimUnknown:
            claimed = await self.cut.claimed_under(self.lease)
            self.answers.add("asked for" if claimed else "not claimed")
        assert isinstance(claimed, list)
        claimed = claimed or await self.calm.claim_runs(claim_of(self.lease))

        assert isinstance(claimed, list)
        assert ids(claimed) == [one.run_id]
        assert claimed[0].fence.lease_epoch == 1
        await self.settle_calmly(claimed[0])

    async def renew(self) -> None:
        """A renewal without an answer is none; asked again it is one."""
        try:
            renewal = await self.cut.renew_lease(self.lease, lease_s=LEASE_S)
            self.answers.add("told")
        except StoreUnavailable:
            self.answers.add("unanswered")
            renewal = await self.cut.renew_lease(self.lease, lease_s=LEASE_S)

        assert renewal.held

    async def settle(self) -> None:
        """The run is charged once; the same end is told the same, another one that it is lost."""
        claimed = await begin(self.calm, self.lease, max_cost=COST)
        one = end(claimed)

        assert await self.cut.end_runs([one], wait=True) == [SETTLED]

        assert await self.calm.end_runs([one], wait=True) == [SETTLED]
        assert await self.calm.end_runs([end(claimed)], wait=True) == [LeaseLost()]

    async def take_back(self) -> None:
        """One attempt is spent; asked again there is nothing left to take."""
        claimed = await begin(self.calm, self.lease, max_cost=COST)
        fence = claimed.fence

        taken = await self.cut.take_back(
            [Seen(fence.run_id, "acme", fence.lease_id, fence.lease_epoch)], Lapse.LOST
        )

        self.answers.add(str(taken))
        run = await read(self.calm, fence.run_id)
        assert (run.status, run.attempt) == (Status.QUEUED, 2)
        assert await self.calm.end_runs([end(claimed)], wait=True) == [LeaseLost()]
        await self.end_it(fence.run_id)

    async def reap(self) -> None:
        """The lapsed lease is gone in the end, and its run is found by the scan."""
        lapsed = await take_lease(self.calm, "lapsing")
        claimed = await begin(self.calm, lapsed, max_cost=COST)
        await let_lapse(self.calm, lapsed)

        try:
            self.answers.add("told" if await self.cut.reap_lease() else "none")
        except StoreUnavailable:
            self.answers.add("unanswered")
            await self.cut.reap_lease()

        (orphan,) = await self.calm.orphaned_runs(10)
        assert orphan.run_id == claimed.fence.run_id
        assert await self.calm.take_back([orphan], Lapse.LOST) == 1
        await self.end_it(orphan.run_id)

    async def end_it(self, run_id: object) -> None:
        """Let the run that waits be over, so that the next place finds nothing of this one."""
        claimed = await self.calm.claim_runs(claim_of(self.lease))
        assert isinstance(claimed, list)
        assert ids(claimed) == [run_id]
        await self.settle_calmly(claimed[0])

    async def settle_calmly(self, claimed: Claimed) -> None:
        assert await self.calm.end_runs([end(claimed)], wait=True) == [SETTLED]


async def let_lapse(store: PostgresStore, lease: NodeLease) -> None:
    """Renew a lease for almost no time, and return when it has lapsed by PostgreSQL's clock."""
    while True:
        renewal = await store.renew_lease(lease, lease_s=BRIEF_S)
        await trio.sleep(LOOK_S)
        if not renewal.held:
            return


VERBS: dict[str, Callable[[Cutting], Awaitable[None]]] = {
    "submit": Cutting.submit,
    "claim": Cutting.claim,
    "renew": Cutting.renew,
    "settle": Cutting.settle,
    "take_back": Cutting.take_back,
    "reap": Cutting.reap,
}
# What has to be seen over *all* places, or the cuts did not reach both sides of the commit.
SEEN = {
    "submit": {"Created", "Exists"},
    "claim": {"told", "asked for", "not claimed"},
    "renew": {"told", "unanswered"},
    "settle": set[str](),
    "take_back": {"1", "0"},
    "reap": {"told", "unanswered"},
}


@pytest.mark.parametrize("fresh", FRESH)
@pytest.mark.parametrize("verb", VERBS)
async def test_cut_before_any_message_a_verb_tells_the_truth_and_is_done_once(
    wired: PostgresStore,
    judged: PostgresStore,
    scissors: Scissors,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    *,
    fresh: bool,
) -> None:
    monkeypatch.setattr(desk, "PAUSE_S", LOOK_S)  # before a second try
    await make_tenant(judged, deposit=1000 * DOLLAR)
    cutting = Cutting(wired, judged, scissors, await take_lease(judged))
    await VERBS[verb](cutting)  # its statements are known to a connection
    for place in itertools.count(FIRST, STEP):
        if fresh:
            await wired.close()
        scissors.arm(place, cuts=True)
        with trio.fail_after(SOON_S):
            await VERBS[verb](cutting)
        if not scissors.reached.is_set():
            break

    print(f"DPP_TEST_SEED={SEED}, {verb}: {place - 1} places, answers {sorted(cutting.answers)}")
    assert place > PLACES_MIN
    assert cutting.answers >= SEEN[verb] or not ALL
