"""The claimer: it fills this node's free places with due runs, going round the tenants.

A claim asks for about ten runs of each of ten tenants, since settling them then locks ten budgets
and not a hundred; a tenant that is alone may have them all. A submit of this node wakes it; behind
that stands the scan of the ring, and a poll for tenants whose runs ended here: a plan's cap may let
them have another.

A claim whose COMMIT got no answer is asked for until it is known, before anything else is claimed:
otherwise its runs would be nobody's under a living lease. Time boxes count from before the claim
was asked. Nothing is claimed once the node drains or the lease is gone.
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias

import trio
from attrs import define, field

from dpp.actors.attempts import Attempt
from dpp.actors.ring import REFRESH_S, Ring, Round
from dpp.actors.tenure import Tenure
from dpp.actors.wake import Wake, when
from dpp.claims import CLAIM_BYTES, Claim, Claimed
from dpp.faults import ClaimUnknown, StoreUnavailable
from dpp.leases import LeaseGone
from dpp.live import Live
from dpp.logs import get_logger
from dpp.metrics import claims_total
from dpp.ports import Claims

TENANTS = 10  # a claim: 10 of each of 10 settle 1.5 × as fast as one of each of a hundred
RUNS = 100  # a claim, at most
POLL_S_MIN = 0.005  # while runs end here: what a capped tenant waits for its next run
POLL_S_MAX = 0.05  # the same when polls find nothing
VAIN_MAX = 3  # looks: a tenant without a cap is not asked for each time that a run of it ends
SCAN_MAX = 1000  # tenants: a few milliseconds of index probes
ASK_AGAIN_S = 0.1  # for an unknown claim: the old backend may hold the lease row for seconds

Execute: TypeAlias = Callable[[Attempt], Awaitable[None]]

log = get_logger(__name__)


@define(eq=False)
class Rounds:
    """What tells the claimer where runs wait and places are free; outlives tenures and restarts."""

    ring: Ring
    tell: Callable[[str], object] = lambda _: None  # of tenants that other nodes should look at
    wake: Wake = field(factory=Wake)
    scan_after: str = ""  # the scan goes on after this tenant
    full: bool = False  # the claimer waits for a place
    again: set[str] = field(factory=set)  # tenants whose runs ended here since the last look
    looked: set[str] = field(factory=set)  # those that are in the ring for that alone
    vain: Counter[str] = field(factory=Counter)  # looks in a row that found nothing

    def queued(self, tenant_id: str) -> None:
        """Hear that a tenant has new runs. Other nodes are told if this one has no place for them.

        Else its next claim takes them, and theirs would find nothing.
        """
        if self.full:
            self.tell(tenant_id)
        self.heard(tenant_id)

    def heard(self, tenant_id: str) -> None:
        """Hear that a tenant may have queued runs, from whomever."""
        self.looked.discard(tenant_id)
        self.ring.add(tenant_id)
        self.wake.ring()

    def freed(self, tenant_id: str) -> None:
        """Hear that a run ended here: its tenant and this node have one less."""
        if self.full:
            self.wake.ring()
        if self.vain[tenant_id] < VAIN_MAX:
            if not self.again:
                self.wake.ring()
            self.again.add(tenant_id)

    def taken_back(self) -> None:
        """Hear that runs of others wait again: look for them now, not at the next scan."""
        self.ring.look_now()
        self.wake.ring()

    def look_again(self) -> None:
        """Let the tenants whose runs ended be asked for: a cap may have kept others waiting."""
        for tenant_id in self.again:
            if tenant_id not in self.ring:
                self.looked.add(tenant_id)
                self.ring.add(tenant_id)
        self.again.clear()

    def scanned(self, found: Sequence[str], now: float) -> None:
        """Take a scan in. Who waits although its last claim left nothing may well have a cap."""
        for tenant_id in found:
            if tenant_id not in self.ring:
                self.vain.pop(tenant_id, None)
        self.scan_after = found[-1] if len(found) == SCAN_MAX else ""
        self.ring.refreshed(found, now)

    def claimed(self, asked: Round, claimed: Sequence[Claimed]) -> None:
        """Learn from a claim. A tenant that had all that was asked for may have more.

        So may each where the claim was cut short for its inputs.
        """
        self.ring.claimed(asked, claimed)
        if sum(len(run.inputs) for run in claimed) >= CLAIM_BYTES:
            for turn in asked.turns:
                self.ring.add(turn.tenant_id)
        counts = Counter(run.tenant_id for run in claimed)
        for turn in asked.turns:
            if counts[turn.tenant_id] >= turn.share:
                self.tell(turn.tenant_id)
        looked = self.looked.intersection(turn.tenant_id for turn in asked.turns)
        self.looked -= looked
        self.vain.update(looked)
        for run in claimed:
            if run.tenant_id in looked:
                del self.vain[run.tenant_id]


async def claimer(
    store: Claims,
    rounds: Rounds,
    execute: Execute,
    here: Tenure,
    runs: trio.Nursery,
    draining: trio.Event,
    *,
    packs: Sequence[str],
    concurrency: Live[int],
) -> None:
    """Claim for this tenure until the node drains; each attempt is a task of `runs`."""
    start = partial(adopt, execute, here, runs)
    claiming = Claiming(store, rounds, here, draining, start, tuple(packs))
    pause_s = POLL_S_MIN
    look_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(when, draining, rounds.wake.ring)
        while not draining.is_set():
            free, now = concurrency.now - len(here.attempts), trio.current_time()
            if now >= look_at and rounds.again:
                rounds.look_again()
                look_at = now + pause_s
            if free <= 0:
                await wait_for_place(rounds)
            elif rounds.ring.due_in_s(now) == 0:
                await claiming.scan()
            elif len(rounds.ring):
                some = await claiming.claim(free)
                pause_s = POLL_S_MIN if some else min(2 * pause_s, POLL_S_MAX)
            else:
                look_s = look_at - now if rounds.again else REFRESH_S
                await rounds.wake.wait(min(look_s, rounds.ring.due_in_s(now)))
        nursery.cancel_scope.cancel(reason="draining")


async def wait_for_place(rounds: Rounds) -> None:
    """Return when places are free again: a few, not one at a time."""
    rounds.full = True
    await rounds.wake.wait(REFRESH_S)
    rounds.full = False
    await trio.sleep(POLL_S_MIN)


def adopt(
    execute: Execute, here: Tenure, runs: trio.Nursery, claimed: Sequence[Claimed], asked_at: float
) -> None:
    """Start what was claimed. Sync: between the answer and the registry nobody can look."""
    for run in claimed:
        if run.fence not in here.attempts and run.fence not in here.attempts.forsaken:
            attempt = Attempt.of(run, asked_at)
            here.attempts.add(attempt)
            runs.start_soon(execute, attempt)
    claims_total.inc(len(claimed))


@define(eq=False)
class Claiming:
    """The two questions that a claimer asks of the store."""

    store: Claims
    rounds: Rounds
    here: Tenure
    draining: trio.Event
    adopt: Callable[[Sequence[Claimed], float], None]
    packs: tuple[str, ...]

    async def scan(self) -> None:
        """Look for tenants with queued runs, whoever took their submits."""
        asked_at = trio.current_time()
        found = await self.store.queued_tenants(self.rounds.scan_after, SCAN_MAX)
        self.rounds.scanned(found, asked_at)
        self.rounds.ring.spent(trio.current_time() - asked_at)

    async def claim(self, free: int) -> bool:
        """Claim for the next tenants of the ring, at most `free`; say whether there was any."""
        asked = self.rounds.ring.next(min(TENANTS, free), min(free, RUNS))
        claim = Claim(lease=self.here.lease, turns=asked.turns, packs=self.packs)
        asked_at = trio.current_time()
        claimed = await self._ask(claim)
        if isinstance(claimed, LeaseGone):
            self.here.lost()
            return False
        self.adopt(claimed, asked_at)
        if asked.unbounded:
            self.rounds.ring.spent(trio.current_time() - asked_at)
        self.rounds.claimed(asked, claimed)
        return bool(claimed)

    async def _ask(self, claim: Claim) -> list[Claimed] | LeaseGone:
        try:
            return await self.store.claim_runs(claim)
        except ClaimUnknown as unknown:
            log.warning("claim unknown", detail=str(unknown))
        while not self.draining.is_set():
            known = [*self.here.attempts.fences()]  # before asking: what ends meanwhile is no news
            try:
                held = await self.store.claimed_under(self.here.lease, known)
            except StoreUnavailable:
                await trio.sleep(ASK_AGAIN_S * random.uniform(0.5, 1.0))
                continue
            return held
        return []  # noqa: ASYNC910  # whatever it was, it is handed back with the lease
