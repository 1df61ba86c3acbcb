"""The ring: which tenants to claim from next, and from where in their queues.

A tenant stands in it while it may have queued runs: it is added by submits of this node and by a
loose scan, and dropped when a claim found fewer runs than it asked for, unless it was added again
meanwhile. Going round it is what makes claiming fair, however long one tenant's queue is; in a
claim each has a share by its plan's weight, as its last runs told it (1 until then).

Against dead tuples each tenant has a low bound per priority: the lowest `available_at` of the last
claim from there, since what lies below was claimed. A bound may hide a run that committed late; so
every refresh forgets the bounds and scans, as often as that takes no more than 5 % of the time, at
most once a second and at least every few. Pure: time comes in as an argument.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from random import Random

from attrs import frozen

from dpp.claims import Claimed, Turn, in_turn, shares

PRIORITIES = 10
REFRESH_S = 1.0  # what a lost hint may cost
REFRESH_SHARE = 0.05  # of the time, in which dead tuples are walked over
# What was measured is wall time: a stall of this node or of the database counts in it, and is no
# reason to leave runs lying. A scan that truly takes longer than 0.15 s has a larger share instead.
PAUSE_MAX_S = 3.0
TENANTS_MAX = 100_000  # 10 MB; who does not fit is found by a later scan


@frozen
class Round:
    """The tenants of one claim. `unbounded`: for some of them a refresh forgot the bounds."""

    turns: tuple[Turn, ...]
    unbounded: bool
    number: int


class Ring:
    """A place in it is an order of service, nothing more: what it says wrongly costs latency."""

    def __init__(self, random: Random, tenants_max: int = TENANTS_MAX) -> None:
        """`random` keeps the nodes from going round in step."""
        self._random = random
        self._tenants_max = tenants_max
        self._added: OrderedDict[str, int] = OrderedDict()  # tenant → number of the round then
        self._lows: dict[str, list[datetime | None]] = {}
        self._weights: dict[str, int] = {}  # of the tenants in it that have not 1
        self._served: dict[
            str, int
        ] = {}  # of its turn: who has less than its weight stays in front
        self._forgotten: set[str] = set()
        self._rounds = 0
        self._refreshed_at = self._due_at = float("-inf")
        self._spent_s = 0.0

    def __len__(self) -> int:
        return len(self._added)

    def __contains__(self, tenant_id: str) -> bool:
        return tenant_id in self._added

    def add(self, tenant_id: str) -> None:
        """Let the tenant be asked for, after all that stand there already."""
        if tenant_id in self._added or len(self._added) < self._tenants_max:
            self._added[tenant_id] = self._rounds

    def next(self, tenants_max: int, runs: int) -> Round:
        """Return the next tenants with their shares of `runs`.

        Who was asked for as many as its weight stands at the end then: where places come free one
        by one, each claim is of one run, and a weight counts all the same.
        """
        self._rounds += 1
        chosen = list(islice(self._added, tenants_max))
        forgotten = self._forgotten.intersection(chosen)
        self._forgotten -= forgotten
        whole, parts = self._parts(chosen, runs)
        for tenant_id, share in zip(chosen, parts, strict=True):
            served, weight = self._served.pop(tenant_id, 0) + share, self._weights.get(tenant_id, 1)
            if served >= weight:
                self._added.move_to_end(tenant_id)
                served = 0 if whole else served - weight
            if served:
                self._served[tenant_id] = served
        turns = tuple(
            Turn(tenant_id, share, tuple(self._lows.get(tenant_id, ())))
            for tenant_id, share in zip(chosen, parts, strict=True)
            if share
        )
        return Round(turns, bool(forgotten), self._rounds)

    def _parts(self, chosen: Sequence[str], runs: int) -> tuple[bool, list[int]]:
        """Divide a claim by weight; if it is too small for that (False), by what each is due."""
        weights = [self._weights.get(tenant_id, 1) for tenant_id in chosen]
        if runs >= sum(weights):
            return True, shares(weights, runs)
        served = [self._served.get(tenant_id, 0) for tenant_id in chosen]
        parts = in_turn([max(w - had, 0) for w, had in zip(weights, served, strict=True)], runs)
        more = in_turn(weights, runs - sum(parts))  # of the next turn
        return False, [part + another for part, another in zip(parts, more, strict=True)]

    def claimed(self, asked: Round, claimed: Sequence[Claimed]) -> None:
        """Learn from a claim: weights, higher bounds, and who had less than was asked for."""
        counts = dict.fromkeys((turn.tenant_id for turn in asked.turns), 0)
        lows: dict[tuple[str, int], datetime] = {}
        for run in claimed:
            counts[run.tenant_id] += 1
            place = (run.tenant_id, run.priority)
            lows[place] = min(lows.get(place, run.available_at), run.available_at)
            if run.weight != 1:
                self._weights[run.tenant_id] = run.weight
            else:
                self._weights.pop(run.tenant_id, None)
        for (tenant_id, priority), low in lows.items():
            bounds = self._lows.setdefault(tenant_id, [None] * PRIORITIES)
            bounds[priority] = low
        for turn in asked.turns:
            tenant_id = turn.tenant_id
            if counts[tenant_id] >= turn.share or tenant_id not in self._added:
                continue
            self._served.pop(tenant_id, None)
            if self._added[tenant_id] < asked.number:
                del self._added[tenant_id]
                self._weights.pop(tenant_id, None)
            else:  # added meanwhile: it may have more, but its turn is over
                self._added.move_to_end(tenant_id)

    def due_in_s(self, now: float) -> float:
        """Return how long until a refresh is due; 0 = now."""
        return max(self._due_at - now, 0.0)

    def look_now(self) -> None:
        """Let a refresh be due."""
        self._due_at = float("-inf")

    def refreshed(self, found: Sequence[str], now: float) -> None:
        """Take in what a scan found, which was asked at `now`, and forget all bounds."""
        self._forgotten = set(self._lows)
        self._lows.clear()
        for tenant_id in self._random.sample(found, len(found)):
            if tenant_id not in self._added:
                self.add(tenant_id)
        self._refreshed_at, self._spent_s = now, 0.0
        self.spent(0.0)

    def spent(self, seconds: float) -> None:
        """Count what a refresh cost: its scan, and each claim that went without bounds for it."""
        self._spent_s += seconds
        pause_s = min(max(REFRESH_S, self._spent_s / REFRESH_SHARE), PAUSE_MAX_S)
        pause_s *= self._random.uniform(1.0, 1.2)  # nodes that scan in step ask the same at once
        self._due_at = self._refreshed_at + pause_s
