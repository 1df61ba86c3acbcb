"""The fake store's tables: dictionaries of rows, and the writes that move money between them.

The same constraints as in the schema are asserted after each write; a violated one is a bug, and
whoever asked sees an `AssertionError`, as with a CHECK.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from attrs import asdict, define, evolve, field, frozen

from dpp.admission import Account, Created, Submission
from dpp.claims import Seen
from dpp.findings import Finding
from dpp.leases import Fence, NodeLease
from dpp.ledger import SIGNS, Budget, Entry, Kind, Posting, RefundableRun
from dpp.membership import Drain, Report
from dpp.modes import InForce, Mode, ModeChange
from dpp.money import Micros
from dpp.plans import WINDOW_S
from dpp.receipts import Bought, Receipt, Resolution, Unresolved, receipt_of
from dpp.runs import Progress, Run, Status, StoredResult
from dpp.settlement import EndedRun, Ending, LiveRun
from dpp.spending import Allowance, Spending
from dpp.usage import UsageDay
from dpp.watches import RunEvent
from tests.fake_webhooks import Mail

if TYPE_CHECKING:
    from collections.abc import Iterable


@define(kw_only=True)
class TenantRow:
    tenant_id: str
    plan: str
    created_at: datetime
    suspended: bool = False
    frozen: bool = False


@define(kw_only=True)
class BudgetRow:
    tenant_id: str
    deposited: int = 0
    available: int = 0
    held: int = 0
    spent: int = 0
    seq: int = 0
    window_from: datetime | None = None
    window_count: int = 0
    spending: Spending = field(factory=Spending)

    def check(self) -> None:
        assert min(self.deposited, self.available, self.held, self.spent) >= 0, self
        assert self.available + self.held + self.spent == self.deposited, self

    def as_budget(self) -> Budget:
        return Budget(
            self.tenant_id,
            deposited=Micros(self.deposited),
            available=Micros(self.available),
            held=Micros(self.held),
            spent=Micros(self.spent),
        )


@define(kw_only=True)
class KeyRow:
    key_id: str
    tenant_id: str
    secret_sha256: bytes
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked: bool = False
    allowance_id: str | None = None
    created_by: str = ""
    last_used_at: datetime | None = None


@frozen(kw_only=True)
class SubmissionRow:
    asked: Submission
    seq: int
    minimum_fee: Micros
    policy: str
    created_at: datetime
    expires_at: datetime
    result_days: int
    budget_day: date
    allowance_id: str | None

    def served_until(self, completed: EndingRow) -> datetime:
        return completed.finished_at + timedelta(days=self.result_days)


@define(kw_only=True)
class LiveRow:
    run_id: UUID
    tenant_id: str
    available_at: datetime
    expires_at: datetime
    max_cost: Micros
    minimum_fee: Micros
    timebox_s: int
    priority: int
    pack_type: str
    budget_day: date
    allowance_id: str | None = None
    started_at: datetime | None = None
    deadline: datetime | None = None
    lease_id: UUID | None = None
    lease_epoch: int = 0
    attempts_spent: int = 0
    storing: bool = False
    cancel_asked: bool = False
    quarantined: bool = False

    def seen(self) -> Seen:
        return Seen(self.run_id, self.tenant_id, self.lease_id, self.lease_epoch)

    def held_by(self, fence: Fence) -> bool:
        return self.lease_id == fence.lease_id and self.lease_epoch == fence.lease_epoch

    def as_live_run(self) -> LiveRun:
        return LiveRun(
            run_id=self.run_id,
            tenant_id=self.tenant_id,
            lease_id=self.lease_id,
            lease_epoch=self.lease_epoch,
            attempts_spent=self.attempts_spent,
            max_cost=self.max_cost,
            minimum_fee=self.minimum_fee,
            cancel_asked=self.cancel_asked,
            quarantined=self.quarantined,
        )


@frozen(kw_only=True)
class EndingRow:
    ending: Ending
    attempts_spent: int
    cancel_asked: bool
    started_at: datetime | None
    finished_at: datetime
    result_sha256: bytes | None


@frozen(kw_only=True)
class TransferRow:
    posting: Posting
    seq: int
    created_at: datetime


@define
class LeaseRow:
    lease: NodeLease
    lease_until: datetime
    tenure: int


@define
class NodeRow:
    last_heartbeat: datetime
    left_at: datetime | None = None
    drain: Drain | None = None
    report: Report | None = None
    reported_at: datetime | None = None


@define
class UsageRow:
    runs: int = 0
    completed: int = 0
    failed: int = 0
    cost: int = 0
    reserved: int = 0


@define(eq=False)
class Rows:
    """All tables, and what every transaction does to them."""

    tenants: dict[str, TenantRow] = field(factory=dict)
    budgets: dict[str, BudgetRow] = field(factory=dict)
    keys: dict[str, KeyRow] = field(factory=dict)
    submissions: dict[UUID, SubmissionRow] = field(factory=dict)
    run_of_key: dict[tuple[str, str], UUID] = field(factory=dict)
    live: dict[UUID, LiveRow] = field(factory=dict)
    endings: dict[UUID, EndingRow] = field(factory=dict)
    transfers: dict[tuple[str, str], TransferRow] = field(factory=dict)
    leases: dict[UUID, LeaseRow] = field(factory=dict)
    nodes: dict[str, NodeRow] = field(factory=dict)
    modes: dict[UUID, ModeChange] = field(factory=dict)
    events: dict[tuple[UUID, int, int], RunEvent] = field(factory=dict)
    usage: dict[tuple[str, date], UsageRow] = field(factory=lambda: defaultdict(UsageRow))
    findings: list[Finding] = field(factory=list)
    stores: dict[str, UUID] = field(factory=dict)
    mail: Mail = field(factory=Mail)
    spent_keys: dict[UUID, str] = field(factory=dict)  # whose run it was that is past retention
    allowances: dict[str, Allowance] = field(factory=dict)

    def beat(self, node_id: str, now: datetime) -> None:
        row = self.nodes.setdefault(node_id, NodeRow(now))
        row.last_heartbeat, row.left_at = now, None

    def in_force(self, now: datetime) -> InForce:
        last = next(reversed(self.modes.values()), None)
        if last is None:
            return InForce()
        left_s = None if last.expires_at is None else (last.expires_at - now).total_seconds()
        return InForce(Mode.NORMAL if left_s is not None and left_s <= 0 else last.mode, left_s)

    def account(self, tenant_id: str) -> Account:
        tenant, budget = self.tenants[tenant_id], self.budgets[tenant_id]
        queued = sum(r.lease_id is None for r in self.live.values() if r.tenant_id == tenant_id)
        return Account(
            plan=tenant.plan,
            suspended=tenant.suspended,
            frozen=tenant.frozen,
            available=Micros(budget.available),
            seq=budget.seq,
            queued=queued,
            window_from=budget.window_from,
            window_count=budget.window_count,
            spending=budget.spending,
            origins=self.mail.origins(tenant_id),
        )

    def write_submission(self, asked: Submission, created: Created) -> None:
        now, budget = created.created_at, self.budgets[asked.tenant_id]
        row = SubmissionRow(
            asked=asked,
            seq=created.seq,
            minimum_fee=created.minimum_fee,
            policy=created.policy,
            created_at=now,
            expires_at=created.expires_at,
            result_days=created.result_days,
            budget_day=created.budget_day,
            allowance_id=created.allowance_id,
        )
        assert asked.run_id not in self.submissions
        self.submissions[asked.run_id] = row
        self.run_of_key[asked.tenant_id, asked.idempotency_key] = asked.run_id
        self.live[asked.run_id] = LiveRow(
            run_id=asked.run_id,
            tenant_id=asked.tenant_id,
            available_at=created.available_at,
            expires_at=row.expires_at,
            max_cost=asked.max_cost,
            minimum_fee=created.minimum_fee,
            timebox_s=asked.timebox_s,
            priority=asked.priority,
            pack_type=asked.pack_type,
            budget_day=created.budget_day,
            allowance_id=created.allowance_id,
        )
        begun = budget.window_from is not None and now < budget.window_from + timedelta(
            seconds=WINDOW_S
        )
        budget.available -= asked.max_cost
        budget.held += asked.max_cost
        budget.window_from = budget.window_from if begun else now
        budget.window_count = budget.window_count + 1 if begun else 1
        budget.spending = budget.spending.on(created.budget_day).plus(asked.max_cost)
        if created.allowance_id is not None:
            allowance = self.allowances[created.allowance_id]
            self.allowances[created.allowance_id] = allowance.plus(asked.max_cost)
        self._next_seq(budget, created.seq)

    def write_ending(self, ending: Ending, now: datetime) -> None:
        live = self.live.pop(ending.run_id)
        assert (live.lease_id, live.lease_epoch) == (ending.lease_id, ending.lease_epoch)
        assert not live.quarantined
        assert ending.run_id not in self.endings
        assert ending.cost + ending.returned == live.max_cost
        self.endings[ending.run_id] = EndingRow(
            ending=ending,
            attempts_spent=live.attempts_spent,
            cancel_asked=live.cancel_asked,
            started_at=live.started_at,
            finished_at=now,
            result_sha256=digest(ending.result),
        )
        budget = self.budgets[ending.tenant_id]
        budget.held -= live.max_cost
        budget.available += ending.returned
        budget.spent += ending.cost
        budget.spending = counted_back(budget.spending, live.budget_day, ending.returned)
        if live.allowance_id is not None:
            allowance = self.allowances[live.allowance_id]
            used = Micros(allowance.used - ending.returned)
            self.allowances[live.allowance_id] = evolve(allowance, used=used)
        self._next_seq(budget, ending.seq)
        self._use(ending, now)
        spent_before = budget.spent - ending.cost
        self.mail.write_events(self, self.endings[ending.run_id], spent_before)

    def write_transfer(self, posting: Posting, now: datetime) -> None:
        budget, signs = self.budgets[posting.tenant_id], SIGNS[posting.kind]
        row = TransferRow(posting=posting, seq=budget.seq + 1, created_at=now)
        self.transfers[posting.tenant_id, posting.reference] = row
        budget.deposited += signs.deposited * posting.amount
        budget.available += signs.available * posting.amount
        budget.spent += signs.spent * posting.amount
        self._next_seq(budget, row.seq)

    def refundable(self, tenant_id: str, run_id: UUID | None) -> RefundableRun | None:
        """Return what a refund of a run is decided by; None = the tenant has no such run."""
        row = None if run_id is None else self.submissions.get(run_id)
        if run_id is None or row is None or row.asked.tenant_id != tenant_id:
            return None
        ended, refunded = self.endings.get(run_id), self.refunded(run_id)
        return RefundableRun(None if ended is None else ended.ending.cost, refunded)

    def refunded(self, run_id: UUID) -> Micros:
        postings = (row.posting for row in self.transfers.values())
        refunds = (one for one in postings if one.kind is Kind.REFUND and one.run_id == run_id)
        return Micros(sum(one.amount for one in refunds))

    def requeue(self, fence: Fence, spent: int, now: datetime) -> bool:
        """Let an attempt wait again; a run whose cancel was asked is never requeued."""
        live = self.live.get(fence.run_id)
        if live is None or not live.held_by(fence) or live.cancel_asked or live.quarantined:
            return False
        live.lease_id = live.deadline = None
        live.storing = False
        live.available_at = now
        live.attempts_spent += spent
        return True

    def hand_back_lease(self, lease: NodeLease, now: datetime) -> None:
        """Requeue all of a lease, no attempt spent."""
        for live in self.live.values():
            if live.lease_id == lease.lease_id:
                self.requeue(Fence(live.run_id, lease.lease_id, live.lease_epoch), 0, now)

    def ended(self, run_ids: Iterable[UUID]) -> dict[UUID, EndedRun]:
        rows = (self.endings[run_id].ending for run_id in run_ids if run_id in self.endings)
        return {row.run_id: EndedRun(row.ending_id, row.status, row.cost) for row in rows}

    def run(self, tenant_id: str, run_id: UUID, now: datetime) -> Run | None:
        """Put a run together, as its tenant sees it now."""
        row = self.submissions.get(run_id)
        if row is None or row.asked.tenant_id != tenant_id:
            return None
        live, ended = self.live.get(run_id), self.endings.get(run_id)
        assert (live is None) != (ended is None), "neither live nor ended"
        fields: dict[str, Any] = of_live(live) if live is not None else {}
        if ended is not None:
            fields = of_ending(ended)
        until = None
        if ended is not None and ended.ending.status is Status.COMPLETED:
            until = row.served_until(ended)
        if until is not None and until <= now:
            fields |= {"result": None, "result_key": None}
        return Run(
            run_id=run_id,
            tenant_id=tenant_id,
            pack_type=row.asked.pack_type,
            idempotency_key=row.asked.idempotency_key,
            created_at=row.created_at,
            expires_at=row.expires_at,
            max_cost=row.asked.max_cost,
            minimum_fee=row.minimum_fee,
            policy=row.policy,
            priority=row.asked.priority,
            timebox_s=row.asked.timebox_s,
            trace_id=row.asked.trace_id,
            metadata=row.asked.metadata,
            result_expires_at=until,
            progress=self._progress(run_id, fields["lease_epoch"]),
            **fields,
        )

    def receipt(self, tenant_id: str, run_id: UUID) -> Receipt | Unresolved | None:
        """Return a run's receipt, or how far it is."""
        row, ended, live = (
            self.submissions.get(run_id),
            self.endings.get(run_id),
            self.live.get(run_id),
        )
        if row is None or row.asked.tenant_id != tenant_id:
            return None
        if ended is None:
            assert live is not None, "neither live nor ended"
            return Unresolved(Status.QUEUED if live.lease_id is None else Status.PROCESSING)
        return receipt_of(bought(row), resolved(ended))

    def usage_days(self, tenant_id: str) -> tuple[UsageDay, ...]:
        """Return the days on which runs of the tenant ended, in order."""
        return tuple(
            UsageDay(day=day, **asdict(row))
            for (whose, day), row in sorted(self.usage.items())
            if whose == tenant_id
        )

    def ledger(self, tenant_id: str) -> list[Entry]:
        """Return the tenant's facts as one list, by seq."""
        facts: list[Entry] = [
            *(
                of_submission(r)
                for r in self.submissions.values()
                if r.asked.tenant_id == tenant_id
            ),
            *(of_resolution(r) for r in self.endings.values() if r.ending.tenant_id == tenant_id),
            *(of_transfer(r) for r in self.transfers.values() if r.posting.tenant_id == tenant_id),
        ]
        return sorted(facts, key=lambda fact: fact.seq)

    def _progress(self, run_id: UUID, epoch: int) -> Progress | None:
        told = [
            event
            for (of, at, _), event in sorted(self.events.items(), key=lambda item: item[0][2])
            if of == run_id and at == epoch and event.kind == "progress"
        ]
        if not told:
            return None
        assert told[-1].fraction is not None
        return Progress(told[-1].fraction, told[-1].note or "")

    def _use(self, ending: Ending, now: datetime) -> None:
        usage = self.usage[ending.tenant_id, now.date()]
        usage.runs += 1
        usage.completed += ending.status is Status.COMPLETED
        usage.failed += ending.status is Status.FAILED
        usage.cost += ending.cost
        usage.reserved += ending.cost + ending.returned

    def _next_seq(self, budget: BudgetRow, seq: int) -> None:
        assert seq == budget.seq + 1, "the ledger has a gap"
        budget.seq = seq
        budget.check()


def counted_back(spending: Spending, day: date, returned: Micros) -> Spending:
    """Return the counters after a resolution of a reserve that was counted on this day."""
    same_month = (day.year, day.month) == (spending.day.year, spending.day.month)
    return Spending(
        spending.day,
        Micros(spending.day_spend - (returned if day == spending.day else 0)),
        Micros(spending.month_spend - (returned if same_month else 0)),
    )


def digest(result: bytes | StoredResult | None) -> bytes | None:
    """Return the digest that an ending has of its result."""
    if isinstance(result, StoredResult):
        return result.sha256
    return None if result is None else sha256(result).digest()


def bought(row: SubmissionRow) -> Bought:
    """Return a submission as a receipt needs it."""
    return Bought(
        run_id=row.asked.run_id,
        tenant_id=row.asked.tenant_id,
        seq=row.seq,
        pack_type=row.asked.pack_type,
        pack_version=row.asked.pack_version,
        inputs_sha256=sha256(row.asked.inputs).digest(),
        max_cost=row.asked.max_cost,
        policy=row.policy,
        created_at=row.created_at,
    )


def resolved(row: EndingRow) -> Resolution:
    """Return an ending as a receipt needs it."""
    return Resolution(
        seq=row.ending.seq,
        status=row.ending.status,
        cost=row.ending.cost,
        returned=row.ending.returned,
        attempts_spent=row.attempts_spent,
        result_sha256=row.result_sha256,
        finished_at=row.finished_at,
    )


def of_live(live: LiveRow) -> dict[str, Any]:
    """Return what a run shows while it waits or works."""
    return {
        "status": Status.QUEUED if live.lease_id is None else Status.PROCESSING,
        "attempt": live.attempts_spent + 1,
        "lease_epoch": live.lease_epoch,
        "started_at": live.started_at,
        "finished_at": None,
        "actual_cost": None,
        "cancel_asked": live.cancel_asked,
        "result": None,
        "result_key": None,
        "result_sha256": None,
        "failure": None,
    }


def of_ending(row: EndingRow) -> dict[str, Any]:
    """Return what an ended run shows."""
    result = row.ending.result
    return {
        "status": row.ending.status,
        "attempt": row.attempts_spent + 1,
        "lease_epoch": row.ending.lease_epoch,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "actual_cost": row.ending.cost,
        "cancel_asked": row.cancel_asked,
        "result": None if isinstance(result, StoredResult) else result,
        "result_key": result.key if isinstance(result, StoredResult) else None,
        "result_sha256": row.result_sha256,
        "failure": row.ending.failure,
    }


def entry(seq: int, kind: str, amount: int, created_at: datetime, **fields: Any) -> Entry:
    """Make a line of the ledger; what is not given is None."""
    absent = dict.fromkeys(("cost", "returned", "run_id", "reference", "reason"))
    return Entry(
        seq=seq, kind=kind, amount=Micros(amount), created_at=created_at, **{**absent, **fields}
    )


def of_submission(row: SubmissionRow) -> Entry:
    asked = row.asked
    return entry(row.seq, "reserve", asked.max_cost, row.created_at, run_id=asked.run_id)


def of_resolution(row: EndingRow) -> Entry:
    of = row.ending
    whole = of.cost + of.returned
    parts = {"cost": of.cost, "returned": of.returned, "run_id": of.run_id}
    return entry(of.seq, of.kind, whole, row.finished_at, **parts)


def of_transfer(row: TransferRow) -> Entry:
    of = row.posting
    names = {"reference": of.reference, "reason": of.reason, "run_id": of.run_id}
    return entry(row.seq, of.kind.value, of.amount, row.created_at, **names)
