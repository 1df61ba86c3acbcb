"""The judge: what is left when all is healed, against what was asked and what was hit.

It reads rows and knows the rules of who pays from `Price`; it calls nothing that decides in the
product. What clients were told is judged by `tests.oracle.history`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

from attrs import define

from tests.fake_faults import WALL_S
from tests.fake_rows import EndingRow, Rows, SubmissionRow
from tests.oracle import history
from tests.sim import books
from tests.sim.blobs import SimBlobs
from tests.sim.clients import Client
from tests.sim.scenario import ATTEMPTS_MAX, CRASHES, PLANS, Scenario
from tests.sim.script import INLINE_BYTES, Price, result_of
from tests.sim.trace import Trace

BY_PLATFORM = frozenset({"lost_lease", "store_unavailable", "infrastructure"})
CLAIM_S = 60.0  # what a claim may take where anything delays it: the time box counts meanwhile


@define(eq=False, kw_only=True)
class Judge:
    """What it looks at, once nothing runs any more."""

    scenario: Scenario
    rows: Rows
    blobs: SimBlobs
    clients: Client
    trace: Trace
    poisoned: frozenset[UUID]

    def judge(self) -> None:
        """Write every promise that was not kept into the trace."""
        for promise, offender in (
            *self.of_books(),
            *self.of_runs(),
            *self.of_transfers(),
            *self.of_findings(),
        ):
            self.trace.violated(promise, offender)
        for broken in history.violations(self.clients.history, books.facts(self.rows)):
            self.trace.violated(broken.promise, broken.offender)

    def of_books(self) -> Iterator[tuple[str, Any]]:
        """Each budget is the fold of its facts, which are numbered without a gap."""
        steps = books.steps(self.rows)
        held = Counter[str]()
        for live in self.rows.live.values():
            held[live.tenant_id] += live.max_cost
        for tenant_id, budget in self.rows.budgets.items():
            mine = steps.get(tenant_id, [])
            if [step.seq for step in mine] != list(range(1, len(mine) + 1)):
                yield "facts are numbered without a gap", [step.seq for step in mine]
            fold = tuple(
                sum(getattr(step, part) for step in mine) for part in ("available", "held", "spent")
            )
            if fold != (budget.available, budget.held, budget.spent) or budget.seq != len(mine):
                yield "a budget is the fold of its facts", (budget, fold)
            came_in = self._came_in(tenant_id)
            if budget.deposited != came_in or sum(fold) != came_in or min(fold) < 0:
                yield "what came in is there", (budget, came_in)
            if budget.held != held[tenant_id]:
                yield "held is what live runs may cost", (budget, held[tenant_id])

    def _came_in(self, tenant_id: str) -> int:
        """Return what the outside paid in, and did not take out again."""
        signs = {"deposit": 1, "withdraw": -1, "adjust": 1, "refund": 0}
        mine = (r.posting for r in self.rows.transfers.values())
        return sum(signs[one.kind.value] * one.amount for one in mine if one.tenant_id == tenant_id)

    def of_runs(self) -> Iterator[tuple[str, Any]]:
        """Each run ended once, as its script says, at its price; or it is set aside."""
        rows = self.rows
        keys = Counter(
            (row.asked.tenant_id, row.asked.idempotency_key) for row in rows.submissions.values()
        )
        yield from (("one key, one run", key) for key, runs in keys.items() if runs > 1)
        set_aside = {one.subject for one in rows.findings if one.resolved_at is None}
        for run_id, row in rows.submissions.items():
            live, ended = rows.live.get(run_id), rows.endings.get(run_id)
            if (live is None) == (ended is None):
                yield "a run lives or has ended", (run_id, live, ended)
            elif live is not None and not (live.quarantined and str(run_id) in set_aside):
                yield "every run ends or has a finding", live
            elif ended is not None:
                yield from self._of_ending(row, ended)
        yield from (
            ("who ends was asked for", r) for r in rows.endings if r not in rows.submissions
        )

    def _of_ending(self, row: SubmissionRow, ended: EndingRow) -> Iterator[tuple[str, Any]]:
        of, price = ended.ending, self._price(row)
        status, code = of.status.value, of.failure and of.failure.code.value
        shown = (row.asked.run_id, status, code, of.cost, price)
        if not 0 <= of.cost <= row.asked.max_cost or of.cost + of.returned != row.asked.max_cost:
            yield "0 <= cost <= reserve, and the rest is returned", shown
        if not self._is_right(row, ended, price):
            yield "a run ends as its script says, and costs what that costs", shown
        own = price.script.end[1] if price.script.end[0] == "broken" else 0
        if ended.attempts_spent > own and not self._may_spend(price):
            yield "an outage or a drain spends no attempt", (shown, ended.attempts_spent)
        if status == "COMPLETED":
            yield from self._of_result(row, ended)
        elif of.result is not None:
            yield "who did not complete has no result", shown

    def _may_spend(self, price: Price) -> bool:
        """Say whether anything was hit that may cost a run an attempt.

        A node that drains has little time to end its lease; without a store it leaves it to lapse.
        And what cannot be stored within its wait is the platform's fault, whichever store was away.
        A reaper waits one lease after an outage: where that is shorter than a question which was
        asked in the silence is waited for, a living node may come too late to hand back.
        """
        kinds = self.scenario.kinds
        away = kinds & {"outage", "silence"}
        drained_alone = "drain" in kinds and away
        too_late = "silence" in kinds and self.scenario.lease_s < WALL_S
        not_stored = price.script.is_large and (away or kinds & {"blobs away", "blobs lose"})
        return bool(kinds & CRASHES or drained_alone or too_late or not_stored)

    def _price(self, row: SubmissionRow) -> Price:
        asked = row.asked
        order = self.clients.orders[asked.tenant_id, asked.idempotency_key]
        plan = next(one.plan for one in self.scenario.tenants if one.name == asked.tenant_id)
        rule = PLANS[plan].fee
        percent = asked.max_cost * rule.percent_ppm // 1_000_000
        return Price(
            script=order.script,
            reserve=asked.max_cost,
            fee=min(max(rule.floor, percent), asked.max_cost, rule.cap),
            timebox_s=asked.timebox_s,
            attempts_max=ATTEMPTS_MAX,
        )

    def _is_right(self, row: SubmissionRow, ended: EndingRow, price: Price) -> bool:
        """Say whether a run of this price may end so."""
        of = ended.ending
        status, code = of.status.value, of.failure and of.failure.code.value
        if (status, code, of.cost) == price.natural():
            return True
        match status, code:
            case "CANCELED", None:
                return of.run_id in self.clients.cancels and of.cost in price.canceled()
            case "EXPIRED", None:
                late = ended.finished_at >= row.expires_at
                return late and of.cost == 0 and of.lease_epoch == 0
            case "FAILED", "timebox":
                slow_s = CLAIM_S if self.scenario.kinds else 0.0
                return price.may_time_out(slow_s) and of.cost in price.timed_out()
            case "FAILED", str(by) if by in BY_PLATFORM:
                return of.cost == 0 and bool(self.scenario.kinds)
        return False

    def _of_result(self, row: SubmissionRow, ended: EndingRow) -> Iterator[tuple[str, Any]]:
        """A result is the one that this run returns, in its row or under its attempt's key."""
        of, run_id = ended.ending, str(row.asked.run_id)
        end = self.clients.orders[row.asked.tenant_id, row.asked.idempotency_key].script.end
        filling = end[1] if end[0] == "return" else INLINE_BYTES
        expected = f'"{result_of(run_id, filling)}"'.encode()
        if isinstance(of.result, bytes) or of.result is None:
            body: bytes | None = of.result
        else:
            there = self.blobs.objects.get(of.result.key)
            body = None if there is None else there.body
            if of.result.key.split("/")[-2:] != [run_id, str(of.lease_epoch)]:
                yield "a result lies under its attempt's key", (of.result.key, of.lease_epoch)
        if body != expected or ended.result_sha256 != sha256(expected).digest():
            yield "a completed run has its own result", (run_id, body)

    def of_transfers(self) -> Iterator[tuple[str, Any]]:
        """What was acknowledged is there, what was refused is not, and refunds are of what was paid."""  # noqa: E501
        for place, (posting, outcome) in self.clients.postings.items():
            there = self.rows.transfers.get(place)
            if outcome == "ok" and (there is None or there.posting != posting):
                yield "an acknowledged transfer is there", (posting, there)
            if outcome == "fail" and there is not None:
                yield "a refused transfer left nothing", (posting, there)
        asked = {*self.clients.postings, *((one.name, "first") for one in self.scenario.tenants)}
        yield from (("nobody asked for it", one) for one in self.rows.transfers.keys() - asked)
        refunds = Counter[UUID]()
        for row in self.rows.transfers.values():
            if row.posting.kind.value == "refund":
                refunds[row.posting.run_id] += row.posting.amount
        for run_id, amount in refunds.items():
            ended = self.rows.endings.get(run_id)
            if ended is None or amount > ended.ending.cost:
                yield "a run gives back no more than it took", (run_id, amount, ended)

    def of_findings(self) -> Iterator[tuple[str, Any]]:
        """A finding says of a run what was really done to it."""
        for finding in self.rows.findings:
            match finding.invariant:
                case "write_refused":
                    known = UUID(finding.subject) in self.poisoned
                case "object_not_asked":
                    known = "blobs away" in self.scenario.kinds
                case _:
                    known = False
            if not known:
                yield "nobody is called for nothing", finding


def summary(rows: Rows) -> Mapping[str, int]:
    """Count how runs ended, for the table."""
    counts = Counter[str]()
    for row in rows.endings.values():
        of = row.ending
        code = of.failure and of.failure.code.value
        counts[f"ended: {of.status.value}{f', {code}' if code else ''}"] += 1
        counts["attempts retried"] += row.attempts_spent
    return counts


def named(rows: Sequence[Any]) -> list[str]:
    """Return whose rows these are, for a line."""
    return [str(row.run_id) for row in rows]
