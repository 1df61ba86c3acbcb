"""The history checker: what clients were told, against the facts that are left.

It knows nothing of how a promise is kept: clients write down each request with the times between
which it was under way and what came of it, and afterwards the facts are read once. An answer is
`ok`, a definite `fail`, or `info`: nothing is known, because nobody answered or a 503 did.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any, Literal, Protocol

from attrs import define, field, frozen

TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELED", "EXPIRED"})

SUBMISSIONS = "select tenant_id, idempotency_key, run_id, seq, max_cost from dpp.submissions"
ENDINGS = "select run_id, tenant_id, seq, status, cost from dpp.endings"
# What each fact does to (available, held, spent).
STEPS = """
select tenant_id, seq, -max_cost as available, max_cost as held, 0 as spent from dpp.submissions
union all select tenant_id, seq, returned, -cost - returned, cost from dpp.endings
union all
select tenant_id, seq, case kind when 'withdraw' then -amount else amount end, 0,
       case kind when 'refund' then -amount else 0 end
  from dpp.transfers
 order by tenant_id, seq
"""


class Connection(Protocol):
    """What is needed of a driver's connection."""

    async def fetch(self, query: str) -> list[Any]: ...


@frozen(kw_only=True)
class Call:
    """One request of one client; money in micro-dollars, times of one monotonic clock."""

    tenant: str
    invoked_at: float
    answered_at: float


@frozen(kw_only=True)
class Submit(Call):
    """A submission. `status`: of the answer, None where there was none."""

    key: str
    outcome: Literal["ok", "fail", "info"]
    status: int | None = None
    run_id: str | None = None
    max_cost: int | None = None


@frozen(kw_only=True)
class Look(Call):
    """A run as a read showed it."""

    run_id: str
    status: str
    attempt: int
    cost: int | None


@frozen(kw_only=True)
class Balance(Call):
    """A budget as a read showed it."""

    available: int
    held: int
    spent: int


@frozen
class Submission:
    """A fact: a run that was admitted."""

    run_id: str
    seq: int
    max_cost: int


@frozen
class Ending:
    """A fact: how a run ended."""

    tenant: str
    seq: int
    status: str
    cost: int


@frozen
class Step:
    """What the fact of this number does to a budget."""

    seq: int
    available: int
    held: int
    spent: int


@frozen
class Facts:
    """What is left when all is over: submissions by (tenant, key), endings by run, steps by tenant."""  # noqa: E501

    submissions: Mapping[tuple[str, str], Submission]
    endings: Mapping[str, Ending]
    steps: Mapping[str, Sequence[Step]]


@frozen
class Violation:
    """A promise that was not kept, and who shows it."""

    promise: str
    offender: Any


@define(eq=False)
class History:
    """All that clients wrote down."""

    submits: list[Submit] = field(factory=list)
    looks: list[Look] = field(factory=list)
    balances: list[Balance] = field(factory=list)


async def read_facts(connection: Connection) -> Facts:
    """Read the facts; nothing may run any more."""
    steps: dict[str, list[Step]] = defaultdict(list)
    for row in await connection.fetch(STEPS):
        steps[row["tenant_id"]].append(
            Step(row["seq"], row["available"], row["held"], row["spent"])
        )
    return Facts(
        {
            (row["tenant_id"], row["idempotency_key"]): Submission(
                str(row["run_id"]), row["seq"], row["max_cost"]
            )
            for row in await connection.fetch(SUBMISSIONS)
        },
        {
            str(row["run_id"]): Ending(row["tenant_id"], row["seq"], row["status"], row["cost"])
            for row in await connection.fetch(ENDINGS)
        },
        steps,
    )


def violations(history: History, facts: Facts) -> list[Violation]:
    """Ask everything of one history; no violation means that the promises are kept."""
    return [*of_submits(history, facts), *of_looks(history, facts), *of_balances(history, facts)]


def of_submits(history: History, facts: Facts) -> Iterator[Violation]:
    """H1 to H4, and H8."""
    by_key: dict[tuple[str, str], list[Submit]] = defaultdict(list)
    for call in history.submits:
        by_key[call.tenant, call.key].append(call)
    for name, calls in by_key.items():
        there = facts.submissions.get(name)
        told = {(c.run_id, c.max_cost, c.status) for c in calls if c.outcome == "ok"}
        if len(told) > 1:
            yield Violation("H1 a key is answered with one run", (name, told))
        if told and (
            there is None
            or {(run_id, cost) for run_id, cost, _ in told} != {(there.run_id, there.max_cost)}
        ):
            yield Violation("H2 an acknowledged run is there, as it was told", (name, told))
        refusals = {c.status for c in calls if c.outcome == "fail"}
        if there is not None and {c.outcome for c in calls} == {"fail"}:
            rule = "H8 no 429 reserves" if refusals == {429} else "H4 a refusal leaves nothing"
            yield Violation(rule, (name, there))
    for name in facts.submissions.keys() - by_key.keys():
        yield Violation("H3 nothing runs that nobody asked for", name)


def of_looks(history: History, facts: Facts) -> Iterator[Violation]:
    """H5 and H7."""
    owners = {there.run_id: tenant for (tenant, _), there in facts.submissions.items()}
    answers = [(c.tenant, c.run_id) for c in (*history.submits, *history.looks) if c.run_id]
    for tenant, run_id in set(answers):
        if owners.get(run_id) not in {None, tenant}:
            yield Violation("H7 no tenant sees another's run", (tenant, run_id))
    by_run: dict[str, list[Look]] = defaultdict(list)
    for look in history.looks:
        by_run[look.run_id].append(look)
    for run_id, looks in by_run.items():
        ended = facts.endings.get(run_id)
        for look in looks:
            if look.status in TERMINAL and (
                ended is None or (ended.status, ended.cost) != (look.status, look.cost)
            ):
                yield Violation("H5 an end never changes", (look, ended))
        for before, after in pairwise(sorted(looks, key=lambda look: look.answered_at)):
            is_later = before.answered_at <= after.invoked_at
            went_back = before.status in TERMINAL and after.status not in TERMINAL
            if is_later and (went_back or after.attempt < before.attempt):
                yield Violation("H5 a run only moves forward", (before, after))


def of_balances(history: History, facts: Facts) -> Iterator[Violation]:
    """H6: a balance is what the ledger came to at some number that fits what the client knew."""
    known = {tenant: Known(tenant, history, facts) for tenant in facts.steps}
    for seen in history.balances:
        one = known.get(seen.tenant)
        least, most = (0, 0) if one is None else one.window(seen)
        folded = {} if one is None else one.folded
        if not any(
            folded.get(seq) == (seen.available, seen.held, seen.spent)
            for seq in range(least, most + 1)
        ):
            yield Violation("H6 a balance is the ledger at some moment", (seen, least, most))


@define(eq=False)
class Known:
    """One tenant's ledger, and between which times each of its facts came to be, as clients saw."""

    tenant: str
    history: History
    facts: Facts
    folded: dict[int, tuple[int, int, int]] = field(init=False)
    _last: int = field(init=False)
    _there: list[tuple[float, int]] = field(init=False)  # seen at, the greatest number until then
    _asked: list[tuple[float, int]] = field(init=False)  # asked at, the least from then on

    def __attrs_post_init__(self) -> None:
        steps = sorted(self.facts.steps[self.tenant], key=lambda step: step.seq)
        sums = accumulate(((s.available, s.held, s.spent) for s in steps), added)
        self.folded = dict(zip((step.seq for step in steps), sums, strict=True))
        self._last = max(self.folded, default=0)
        # In order of their times, so that an hour's looks are answered by halving.
        self._there = [*accumulate(sorted(self._seen()), greatest)]
        self._asked = [*accumulate(sorted(self._first_asked(), reverse=True), least)][::-1]

    def window(self, seen: Balance) -> tuple[int, int]:
        """Return the least and the greatest number that the ledger may have had at this read."""
        until = bisect_right(self._there, seen.invoked_at, key=itemgetter(0))
        since = bisect_left(self._asked, seen.answered_at, key=itemgetter(0))
        low = self._there[until - 1][1] if until else 0
        high = self._asked[since][1] if since < len(self._asked) else math.inf
        return low, int(min(high - 1, self._last))

    def _seen(self) -> Iterator[tuple[float, int]]:
        for call in self._mine(self.history.submits):
            there = self.facts.submissions.get((self.tenant, call.key))
            if call.outcome == "ok" and there is not None:
                yield call.answered_at, there.seq
        for look in self._mine(self.history.looks):
            ended = self.facts.endings.get(look.run_id)
            if look.status in TERMINAL and ended is not None:
                yield look.answered_at, ended.seq

    def _first_asked(self) -> Iterator[tuple[float, int]]:
        first: dict[str, float] = {}
        for call in self._mine(self.history.submits):
            first[call.key] = min(call.invoked_at, first.get(call.key, math.inf))
        for key, at in first.items():
            if (self.tenant, key) in self.facts.submissions:
                yield at, self.facts.submissions[self.tenant, key].seq

    def _mine(self, calls: Iterable[Any]) -> Iterator[Any]:
        return (call for call in calls if call.tenant == self.tenant)


def greatest(before: tuple[float, int], one: tuple[float, int]) -> tuple[float, int]:
    """Return the moment of the one, and the greater number of both."""
    return one[0], max(before[1], one[1])


def least(after: tuple[float, int], one: tuple[float, int]) -> tuple[float, int]:
    """Return the moment of the one, and the less number of both."""
    return one[0], min(after[1], one[1])


def added(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    """Add what a fact does."""
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2])
