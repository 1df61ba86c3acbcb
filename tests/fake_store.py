"""The fake store: `dpp.ports.Store` on dictionaries, with the same pure decisions as PostgreSQL's.

It passes the same contract suite, so it is the one double that tests of actors need. Time comes
from a callable, by default trio's clock, virtual or not. `faults` says what goes wrong; `rows` may
be looked at, and changed by tests that need a state which no verb makes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import trio
from attrs import evolve

from dpp import admission, keyring, ledger, settlement
from dpp.admission import Admission, Books, Busy, Created, Earlier, Submission, Terms
from dpp.auditing import Mark, Offence
from dpp.blobs import Attempt, BlobKey, Pointer
from dpp.cancels import CancelAsked, CancelOutcome, Ended, RunUnknown
from dpp.chronicles import Backlog, Position
from dpp.claims import Claim, Claimed, LeftStoring, Seen, Turn, served_at
from dpp.findings import Audit, AuditedPage, Finding, ResolveOutcome
from dpp.gauges import Gauges, Health
from dpp.keyring import KeyRefusal, Rotated, Standing, TurnRefusal
from dpp.keyring import Turn as KeyTurn
from dpp.keys import Key, KeyPlace, NewKey, Rotation, by_rotation
from dpp.leases import Fence, Lapse, LeaseGone, Node, NodeLease, Renewal, Requeue
from dpp.ledger import (
    Budget,
    EarlierTransfer,
    Entry,
    Kind,
    Posted,
    Posting,
    PostingOutcome,
    TenantUnknown,
)
from dpp.listings import EVERYTHING, LOOKED_MAX, RunFilter, RunPage
from dpp.membership import Drain, Member, Report
from dpp.messages import Sighting
from dpp.modes import Mode, ModeChange, NewMode, Orders
from dpp.money import ZERO, Micros
from dpp.neighbours import Neighbour
from dpp.plans import Plans
from dpp.receipts import Receipt, Unresolved
from dpp.resolutions import Resolving
from dpp.runs import TERMINAL, Run, Status, StoredResult
from dpp.settlement import End, Settlement
from dpp.spending import Allowance
from dpp.tenants import NewTenant, Tenant, TenantExists
from dpp.usage import DAYS, DAYS_MAX, Usage
from dpp.watches import Changes, RunEvent, Watch
from dpp.webhooks import (
    Attempted,
    Delivery,
    Due,
    NewWebhook,
    ReplayOutcome,
    TooManyWebhooks,
    Webhook,
    WebhookChange,
)
from tests import fake_audit, fake_auditing, fake_chronicles, fake_resolutions
from tests.fake_faults import Faults
from tests.fake_rows import BudgetRow, KeyRow, LeaseRow, LiveRow, NodeRow, Rows, TenantRow

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PRIORITIES = 10


def trio_now() -> datetime:
    """Return a time that passes as trio's clock does."""
    return EPOCH + timedelta(seconds=trio.current_time())


class FakeStore:
    """Implements `dpp.ports.Store`."""

    def __init__(
        self,
        plans: Plans,
        *,
        now: Callable[[], datetime] = trio_now,
        attempts_max: int = 3,
        queue_ttl_s: int = 604_800,
    ) -> None:
        self.plans = plans
        self.now = now
        self.attempts_max = attempts_max
        self.terms = Terms(queue_ttl_s=queue_ttl_s, result_days=30)
        self.rows = Rows()
        self.faults = Faults()
        self.tenures = count()

    # intake

    async def submit_runs(
        self, batch: Sequence[Submission], *, wait: bool
    ) -> list[Admission | Busy]:
        def body() -> list[Admission | Busy]:
            ours = [asked for asked in batch if self._free(asked.tenant_id)]
            assert not wait or len(ours) == len(batch)
            admissions = admission.decide(ours, self._books(ours), self.plans, self.terms)
            for asked, answer in zip(ours, admissions, strict=True):
                if isinstance(answer, Created):
                    self.rows.write_submission(asked, answer)
            answers = iter(admissions)
            return [next(answers) if self._free(asked.tenant_id) else Busy() for asked in batch]

        tenants = [asked.tenant_id for asked in batch] if wait else ()
        runs = [asked.run_id for asked in batch]
        return await self.faults.run("submit_runs", body, runs=runs, waits_for=tenants)

    def _books(self, batch: Sequence[Submission]) -> Books:
        rows = self.rows
        keys = {(asked.tenant_id, asked.idempotency_key) for asked in batch}
        return Books(
            accounts={a.tenant_id: rows.account(a.tenant_id) for a in batch},
            earlier={
                key: Earlier(
                    rows.run_of_key[key], rows.submissions[rows.run_of_key[key]].asked.fingerprint
                )
                for key in keys
                if key in rows.run_of_key
            },
            dead_keys=frozenset(k.key_id for k in rows.keys.values() if self._is_dead(k)),
            now=self.now(),
            in_force=rows.in_force(self.now()),
            allowances={
                k.key_id: rows.allowances[k.allowance_id]
                for k in rows.keys.values()
                if k.allowance_id is not None
            },
        )

    # leases

    async def take_lease(
        self, lease: NodeLease, *, lease_s: float, hand_back: Sequence[NodeLease]
    ) -> datetime:
        def body() -> datetime:
            for owed in hand_back:
                self.rows.leases.pop(owed.lease_id, None)
                self.rows.hand_back_lease(owed, self.now())
            until = self.now() + timedelta(seconds=lease_s)
            self.rows.leases.setdefault(lease.lease_id, LeaseRow(lease, until, next(self.tenures)))
            self.rows.beat(lease.node_id, self.now())
            return self.now()

        return await self.faults.run("take_lease", body)

    async def renew_lease(self, lease: NodeLease, *, lease_s: float) -> Renewal:
        def body() -> Renewal:
            row = self._alive(lease)
            if row is not None:
                row.lease_until = self.now() + timedelta(seconds=lease_s)
                self.rows.beat(lease.node_id, self.now())
            held = sorted(
                (r for r in self._under(lease) if not r.quarantined), key=lambda r: r.run_id
            )
            fences = tuple(Fence(r.run_id, lease.lease_id, r.lease_epoch) for r in held)
            living = [one for one in self.rows.leases.values() if one.lease_until > self.now()]
            offers = {one.lease.node_id: one.lease.offer for one in living}
            neighbours = tuple(Neighbour(name, offers[name]) for name in sorted(offers))
            return Renewal(
                held=row is not None, now=self.now(), fences=fences, neighbours=neighbours
            )

        return await self.faults.run("renew_lease", body)

    async def end_lease(self, lease: NodeLease, *, hand_back: bool) -> int:
        def body() -> int:
            self.rows.leases.pop(lease.lease_id, None)
            if hand_back:
                self.rows.hand_back_lease(lease, self.now())
                if lease.node_id in self.rows.nodes:
                    self.rows.nodes[lease.node_id].left_at = self.now()
            return 0  # nothing here holds a run by itself

        return await self.faults.run("end_lease", body)

    async def hand_back_runs(self, fences: Sequence[Fence]) -> int:
        def body() -> int:
            held = ((self.rows.live.get(fence.run_id), fence) for fence in fences)
            rows = [row for row, fence in held if row is not None and row.held_by(fence)]
            submitted = self.rows.submissions
            for row in rows:
                if row.run_id not in submitted and not row.quarantined:
                    self._set_aside(row, {"verb": "hand_back_runs"})
            seen = [row.seen() for row in rows if row.run_id in submitted]
            return self._take_back(seen, Lapse.HANDED_BACK)

        return await self.faults.run("hand_back_runs", body)

    async def end_earlier_leases(self, lease: NodeLease) -> int:
        def body() -> int:
            own = self.rows.leases.get(lease.lease_id)
            earlier = [
                row.lease.lease_id
                for row in self.rows.leases.values()
                if own and row.lease.node_id == lease.node_id and row.tenure < own.tenure
            ]
            for lease_id in earlier:
                del self.rows.leases[lease_id]
            return len(earlier)

        return await self.faults.run("end_earlier_leases", body)

    def _alive(self, lease: NodeLease) -> LeaseRow | None:
        row = self.rows.leases.get(lease.lease_id)
        return row if row is not None and row.lease_until > self.now() else None

    def _under(self, lease: NodeLease) -> list[LiveRow]:
        return [row for row in self.rows.live.values() if row.lease_id == lease.lease_id]

    # claims

    async def queued_tenants(self, after: str, limit: int) -> list[str]:
        def body() -> list[str]:
            names = {row.tenant_id for row in self.rows.live.values() if row.lease_id is None}
            return sorted(name for name in names if name > after)[:limit]

        return await self.faults.run("queued_tenants", body)

    async def sight_runs(self, run_ids: Sequence[UUID]) -> list[Sighting]:
        def body() -> list[Sighting]:
            there = [self.rows.submissions[one] for one in run_ids if one in self.rows.submissions]
            return [
                Sighting(row.asked.run_id, row.asked.tenant_id, self._waits(row.asked.run_id))
                for row in there
            ]

        return await self.faults.run("sight_runs", body)

    def _waits(self, run_id: UUID) -> bool:
        row = self.rows.live.get(run_id)
        if row is None or row.quarantined:
            return False
        return row.lease_id is None and row.available_at <= self.now()

    async def claim_runs(self, claim: Claim) -> list[Claimed] | LeaseGone:
        def body() -> list[Claimed] | LeaseGone:
            if self._alive(claim.lease) is None:
                return LeaseGone()
            node = self.rows.nodes.get(claim.lease.node_id)
            if self.rows.in_force(self.now()).mode is Mode.DRAIN or (node and node.drain):
                return []
            due = [row for turn in claim.turns for row in self._due(claim, turn)]
            for row in due:
                self._stamp(row, claim.lease)
            order = sorted(due, key=lambda r: (r.priority, r.available_at, r.run_id))
            return [self._claimed(row) for row in order if row.run_id in self.rows.submissions]

        return await self.faults.run("claim_runs", body)

    def _due(self, claim: Claim, turn: Turn) -> list[LiveRow]:
        """Return what a claim takes of one tenant: by priority and age, up to its room."""
        tenant_id = turn.tenant_id
        tenant = self.rows.tenants.get(tenant_id)
        if tenant is None or tenant.plan not in self.plans:
            return []
        mine = [row for row in self.rows.live.values() if row.tenant_id == tenant_id]
        cap = self.plans[tenant.plan].concurrent_runs
        working = sum(row.lease_id is not None and not row.quarantined for row in mine)
        room = turn.share if cap is None else min(turn.share, cap - working)
        bounds = turn.lows or (None,) * PRIORITIES
        due = [
            row
            for row in mine
            if self._is_due(row, bounds[row.priority]) and row.pack_type in claim.packs
        ]
        return sorted(due, key=lambda r: served_at(r.priority, r.available_at))[: max(room, 0)]

    def _is_due(self, row: LiveRow, low: datetime | None) -> bool:
        now = self.now()
        return (
            row.lease_id is None
            and not row.quarantined
            and row.available_at <= now
            and (low is None or row.available_at >= low)
            and (row.expires_at > now or row.lease_epoch > 0)
        )

    def _stamp(self, row: LiveRow, lease: NodeLease) -> None:
        row.lease_id = lease.lease_id
        row.lease_epoch += 1
        row.storing = False
        row.started_at = row.started_at or self.now()
        row.deadline = self.now() + timedelta(seconds=row.timebox_s)

    def _claimed(self, row: LiveRow) -> Claimed:
        assert row.lease_id is not None
        asked = self.rows.submissions[row.run_id].asked
        return Claimed(
            fence=Fence(row.run_id, row.lease_id, row.lease_epoch),
            tenant_id=row.tenant_id,
            pack_type=row.pack_type,
            inputs=asked.inputs,
            max_cost=row.max_cost,
            minimum_fee=row.minimum_fee,
            timebox_s=row.timebox_s,
            priority=row.priority,
            available_at=row.available_at,
            attempt=row.attempts_spent + 1,
            trace_id=asked.trace_id,
            created_at=self.rows.submissions[row.run_id].created_at,
            weight=self._weight(row.tenant_id),
        )

    def _weight(self, tenant_id: str) -> int:
        plan = self.plans.get(self.rows.tenants[tenant_id].plan)
        return 1 if plan is None else plan.weight

    async def claimed_under(
        self, lease: NodeLease, known: Sequence[Fence] = ()
    ) -> list[Claimed] | LeaseGone:
        def body() -> list[Claimed] | LeaseGone:
            if lease.lease_id not in self.rows.leases:
                return LeaseGone()
            held = sorted(self._under(lease), key=lambda row: row.run_id)
            claimed = [self._claimed(row) for row in held if not row.quarantined]
            return [one for one in claimed if one.fence not in known]

        return await self.faults.run("claimed_under", body)

    # endings

    async def end_runs(self, batch: Sequence[End], *, wait: bool) -> list[Settlement | Busy]:
        def body() -> list[Settlement | Busy]:
            ours = [end for end in batch if self._free(end.tenant_id)]
            assert not wait or len(ours) == len(batch)
            run_ids = [end.fence.run_id for end in ours]
            plan = settlement.decide(ours, self._locked(run_ids), attempts_max=self.attempts_max)
            for fence, spent in plan.requeues:
                assert self.rows.requeue(fence, spent, self.now())
            for ending in plan.endings:
                self.rows.write_ending(ending, self.now())
            answers = iter(plan.settlements)
            return [next(answers) if self._free(end.tenant_id) else Busy() for end in batch]

        tenants = [end.tenant_id for end in batch] if wait else ()
        runs = [end.fence.run_id for end in batch]
        return await self.faults.run("end_runs", body, runs=runs, waits_for=tenants)

    def _locked(self, run_ids: Sequence[UUID]) -> settlement.Rows:
        live = {r: self.rows.live[r].as_live_run() for r in run_ids if r in self.rows.live}
        seqs = {budget.tenant_id: budget.seq for budget in self.rows.budgets.values()}
        return settlement.Rows(live=live, ended=self.rows.ended(run_ids), seqs=seqs)

    async def quarantine_run(self, seen: Seen, evidence: Mapping[str, Any]) -> bool:
        def body() -> bool:
            row = self.rows.live.get(seen.run_id)
            if row is None or row.quarantined or row.seen() != seen:
                return False
            self._set_aside(row, evidence)
            return True

        return await self.faults.run("quarantine_run", body)

    def _set_aside(self, row: LiveRow, evidence: Mapping[str, Any]) -> None:
        row.quarantined = True
        self.rows.findings.append(
            Finding(
                uuid4(),
                invariant="write_refused",
                subject=str(row.run_id),
                tenant_id=row.tenant_id,
                evidence=dict(evidence),
                opened_at=self.now(),
            )
        )
        self.rows.tenants[row.tenant_id].frozen = True

    # reaper

    async def end_frozen(self) -> int:
        return await self.faults.run("end_frozen", lambda: 0)  # nobody else holds its rows

    async def reap_lease(self) -> NodeLease | None:
        def body() -> NodeLease | None:
            lapsed = [r for r in self.rows.leases.values() if r.lease_until <= self.now()]
            if not lapsed:
                return None
            first = min(lapsed, key=lambda row: row.lease_until)
            return self.rows.leases.pop(first.lease.lease_id).lease

        return await self.faults.run("reap_lease", body)

    async def orphaned_runs(self, limit: int) -> list[Seen]:
        def body() -> list[Seen]:
            return [
                r.seen()
                for r in self._held()
                if r.lease_id not in self.rows.leases and not r.storing
            ][:limit]

        return await self.faults.run("orphaned_runs", body)

    async def overdue_runs(self, limit: int, *, grace_s: float) -> list[Seen]:
        def body() -> list[Seen]:
            before = self.now() - timedelta(seconds=grace_s)
            return [
                r.seen()
                for r in self._held()
                if r.deadline is not None and r.deadline < before and not r.storing
            ][:limit]

        return await self.faults.run("overdue_runs", body)

    async def unstarted_runs(self, limit: int) -> list[Seen]:
        def body() -> list[Seen]:
            late = [
                row
                for row in self.rows.live.values()
                if row.lease_id is None
                and row.lease_epoch == 0
                and row.expires_at <= self.now()
                and not row.quarantined
            ]
            return [row.seen() for row in sorted(late, key=lambda r: r.expires_at)[:limit]]

        return await self.faults.run("unstarted_runs", body)

    async def take_back(self, seen: Sequence[Seen], lapse: Lapse, *, storing: bool = False) -> int:
        def body() -> int:
            return self._take_back(seen, lapse, storing=storing)

        return await self.faults.run("take_back", body, runs=[one.run_id for one in seen])

    def _take_back(self, seen: Sequence[Seen], lapse: Lapse, *, storing: bool = False) -> int:
        still = self._still(seen, storing=storing)
        for live in still:
            run, seq = live.as_live_run(), self.rows.budgets[live.tenant_id].seq + 1
            decided = settlement.take_back(run, uuid4(), seq, lapse, self.attempts_max)
            if isinstance(decided, Requeue):
                assert run.lease_id is not None
                fence = Fence(run.run_id, run.lease_id, run.lease_epoch)
                assert self.rows.requeue(fence, decided.spent, self.now())
            else:
                self.rows.write_ending(decided, self.now())
        return len(still)

    async def expire_runs(self, seen: Sequence[Seen]) -> int:
        def body() -> int:
            late = [
                row
                for row in self._still(seen)
                if row.lease_epoch == 0 and row.expires_at <= self.now()
            ]
            for row in late:
                seq = self.rows.budgets[row.tenant_id].seq + 1
                ending = settlement.ending(row.as_live_run(), uuid4(), seq, Status.EXPIRED, ZERO)
                self.rows.write_ending(ending, self.now())
            return len(late)

        return await self.faults.run("expire_runs", body, runs=[one.run_id for one in seen])

    def _held(self) -> list[LiveRow]:
        return [r for r in self.rows.live.values() if r.lease_id is not None and not r.quarantined]

    def _still(self, seen: Sequence[Seen], *, storing: bool = False) -> list[LiveRow]:
        """Return the rows that are as they were seen, and that nobody holds."""
        return [
            row
            for one in seen
            if (row := self.rows.live.get(one.run_id)) is not None
            and row.seen() == one
            and row.storing == storing
            and not row.quarantined
            and self._free(row.tenant_id)
        ]

    # large results

    async def mark_storing(self, fence: Fence) -> bool:
        def body() -> bool:
            row = self.rows.live.get(fence.run_id)
            if row is None or not row.held_by(fence) or row.quarantined:
                return False
            row.storing = True
            return True

        return await self.faults.run("mark_storing", body, runs=[fence.run_id])

    async def storing_runs(
        self, *, after: UUID | None, limit: int, grace_s: float
    ) -> list[LeftStoring]:
        def body() -> list[LeftStoring]:
            before = self.now() - timedelta(seconds=grace_s)
            left = [
                row
                for row in self._held()
                if row.storing
                and (after is None or row.run_id > after)
                and (
                    row.lease_id not in self.rows.leases
                    or (row.deadline is not None and row.deadline < before)
                )
            ]
            return [self._left(row) for row in sorted(left, key=lambda r: r.run_id)[:limit]]

        return await self.faults.run("storing_runs", body)

    def _left(self, row: LiveRow) -> LeftStoring:
        return LeftStoring(
            seen=row.seen(),
            max_cost=row.max_cost,
            created_at=self.rows.submissions[row.run_id].created_at,
        )

    async def open_finding(
        self, invariant: str, subject: str, tenant_id: str, evidence: Mapping[str, Any]
    ) -> bool:
        def body() -> bool:
            if any((f.invariant, f.subject) == (invariant, subject) for f in self._open_findings()):
                return False
            finding = Finding(uuid4(), invariant, subject, tenant_id, dict(evidence), self.now())
            self.rows.findings.append(finding)
            return True

        return await self.faults.run("open_finding", body)

    async def kept_objects(self, attempts: Sequence[Attempt]) -> frozenset[Attempt]:
        def kept(one: Attempt) -> bool:
            live, ended = self.rows.live.get(one.run_id), self.rows.endings.get(one.run_id)
            if live is not None:
                return live.lease_epoch == one.lease_epoch
            return (
                ended is not None
                and isinstance(ended.ending.result, StoredResult)
                and ended.ending.lease_epoch == one.lease_epoch
            )

        return await self.faults.run("kept_objects", lambda: frozenset(filter(kept, attempts)))

    async def store_id(self, name: str) -> UUID | None:
        return await self.faults.run("store_id", lambda: self.rows.stores.get(name))

    async def keep_store_id(self, name: str, store_id: UUID) -> UUID:
        return await self.faults.run(
            "keep_store_id", lambda: self.rows.stores.setdefault(name, store_id)
        )

    # auditor

    async def audit_page(
        self, marks: Mapping[str, Mark], *, after: str, tenants_max: int, facts_max: int
    ) -> AuditedPage:
        def body() -> AuditedPage:
            return fake_auditing.page(
                self.rows, marks, after=after, tenants_max=tenants_max, facts_max=facts_max
            )

        return await self.faults.run("audit_page", body)

    async def open_findings(
        self, tenant_id: str, offences: Sequence[Offence], mark: Mark
    ) -> list[Finding]:
        ids = [uuid4() for _ in offences]

        def body() -> list[Finding]:
            return fake_auditing.open_findings(
                self.rows, tenant_id, offences, mark, ids, self.now()
            )

        return await self.faults.run("open_findings", body, waits_for=[tenant_id])

    # follower

    async def follow(
        self, executing: Sequence[UUID], watching: Sequence[Watch], events: Sequence[RunEvent]
    ) -> Changes:
        def body() -> Changes:
            fake_chronicles.store_events(self.rows, events)
            return fake_chronicles.changes(self.rows, executing, watching, self.now())

        return await self.faults.run("follow", body)

    # reads

    async def get_run(self, tenant_id: str, run_id: UUID) -> Run | None:
        return await self.faults.run(
            "get_run", lambda: self.rows.run(tenant_id, run_id, self.now())
        )

    async def get_runs(self, tenant_id: str, run_ids: Sequence[UUID]) -> list[Run]:
        def body() -> list[Run]:
            runs = (self.rows.run(tenant_id, run_id, self.now()) for run_id in run_ids)
            return [run for run in runs if run is not None]

        return await self.faults.run("get_runs", body)

    async def read_chronicle(
        self, tenant_id: str, run_id: UUID, *, after: Position, limit: int
    ) -> Backlog | None:
        def body() -> Backlog | None:
            return fake_chronicles.backlog(self.rows, tenant_id, run_id, after, limit, self.now())

        return await self.faults.run("read_chronicle", body)

    async def list_runs(
        self,
        tenant_id: str,
        *,
        before: UUID | None,
        limit: int,
        matching: RunFilter = EVERYTHING,
    ) -> RunPage:
        def body() -> RunPage:
            mine = [
                run_id
                for run_id, row in self.rows.submissions.items()
                if row.asked.tenant_id == tenant_id and (before is None or run_id < before)
            ]
            looked = sorted(mine, reverse=True)[:LOOKED_MAX]
            runs = (self.rows.run(tenant_id, one, self.now()) for one in looked)
            found = tuple(one for one in runs if one is not None and matching.matches(one))
            if len(found) > limit:
                return RunPage(found[:limit], found[limit - 1].run_id)
            return RunPage(found, looked[-1] if len(looked) == LOOKED_MAX else None)

        return await self.faults.run("list_runs", body)

    async def get_budget(self, tenant_id: str) -> Budget:
        def body() -> Budget:
            return self.rows.budgets[tenant_id].as_budget()

        return await self.faults.run("get_budget", body)

    async def list_transfers(
        self, tenant_id: str, *, before: int | None, limit: int
    ) -> list[Entry]:
        def body() -> list[Entry]:
            facts = reversed(self.rows.ledger(tenant_id))
            return [fact for fact in facts if before is None or fact.seq < before][:limit]

        return await self.faults.run("list_transfers", body)

    async def get_receipt(self, tenant_id: str, run_id: UUID) -> Receipt | Unresolved | None:
        return await self.faults.run("get_receipt", lambda: self.rows.receipt(tenant_id, run_id))

    async def is_closed(self, tenant_id: str, seq: int) -> bool:  # noqa: ARG002 - nothing leaves here
        return await self.faults.run("is_closed", lambda: False)

    async def is_pruned(self, tenant_id: str, run_id: UUID) -> bool:
        return await self.faults.run(
            "is_pruned", lambda: self.rows.spent_keys.get(run_id) == tenant_id
        )

    async def get_usage(self, tenant_id: str, *, first: date | None, last: date | None) -> Usage:
        def body() -> Usage:
            to = last or self.now().astimezone(UTC).date()
            begin = first or max(to, date.min + timedelta(days=DAYS - 1)) - timedelta(days=DAYS - 1)
            period = Usage(begin, to, ())
            ours = self.rows.usage_days(tenant_id) if 0 < period.span <= DAYS_MAX else ()
            return evolve(period, days=tuple(one for one in ours if begin <= one.day <= to))

        return await self.faults.run("get_usage", body)

    async def find_key(self, key_id: str) -> Key | None:
        return await self.faults.run("find_key", lambda: self._key(key_id))

    async def ping(self) -> None:
        await self.faults.run("ping", lambda: None)

    def _key(self, key_id: str) -> Key | None:
        row = self.rows.keys.get(key_id)
        if row is None:
            return None
        tenant = self.rows.tenants[row.tenant_id]
        left = None if row.expires_at is None else (row.expires_at - self.now()).total_seconds()
        return Key(
            key_id=key_id,
            tenant_id=row.tenant_id,
            secret_sha256=row.secret_sha256,
            scopes=row.scopes,
            created_at=row.created_at,
            created_by=row.created_by,
            expires_at=row.expires_at,
            expires_in_s=left,
            last_used_at=row.last_used_at,
            revoked=row.revoked,
            allowance=None if row.allowance_id is None else self.rows.allowances[row.allowance_id],
            plan=tenant.plan,
            suspended=tenant.suspended,
        )

    def _is_dead(self, row: KeyRow) -> bool:
        return row.revoked or (row.expires_at is not None and row.expires_at <= self.now())

    # cancel

    async def cancel_run(self, tenant_id: str, run_id: UUID) -> CancelOutcome:
        def body() -> CancelOutcome:
            live = self.rows.live.get(run_id)
            if live is not None and live.tenant_id == tenant_id:
                live.cancel_asked = True
                if live.lease_id is None and not live.quarantined:
                    seq = self.rows.budgets[tenant_id].seq + 1
                    ended = settlement.ending(
                        live.as_live_run(), uuid4(), seq, Status.CANCELED, ZERO
                    )
                    self.rows.write_ending(ended, self.now())
            run = self.rows.run(tenant_id, run_id, self.now())
            if run is None:
                return RunUnknown()
            return Ended(run) if run.status in TERMINAL else CancelAsked(run)

        return await self.faults.run("cancel_run", body, waits_for=[tenant_id])

    # webhooks

    async def create_webhook(self, new: NewWebhook) -> Webhook | TooManyWebhooks:
        return await self.faults.run(
            "create_webhook", lambda: self.rows.mail.create(new, self.now())
        )

    async def get_webhook(self, tenant_id: str, webhook_id: UUID) -> Webhook | None:
        def body() -> Webhook | None:
            row = self.rows.mail.mine(tenant_id, webhook_id)
            return None if row is None else row.shown(self.now())

        return await self.faults.run("get_webhook", body)

    async def list_webhooks(
        self, tenant_id: str, *, before: UUID | None, limit: int
    ) -> list[Webhook]:
        def body() -> list[Webhook]:
            rows = self.rows.mail.of(tenant_id)
            older = [row for row in rows if before is None or row.webhook_id < before]
            return [row.shown(self.now()) for row in older[:limit]]

        return await self.faults.run("list_webhooks", body)

    async def change_webhook(
        self, tenant_id: str, webhook_id: UUID, change: WebhookChange
    ) -> Webhook | None:
        return await self.faults.run(
            "change_webhook",
            lambda: self.rows.mail.change(tenant_id, webhook_id, change, self.now()),
        )

    async def delete_webhook(self, tenant_id: str, webhook_id: UUID) -> bool:
        return await self.faults.run(
            "delete_webhook", lambda: self.rows.mail.delete(tenant_id, webhook_id)
        )

    async def rotate_webhook(
        self, tenant_id: str, webhook_id: UUID, secret: bytes
    ) -> Webhook | None:
        return await self.faults.run(
            "rotate_webhook",
            lambda: self.rows.mail.rotate(tenant_id, webhook_id, secret, self.now()),
        )

    async def list_deliveries(
        self,
        tenant_id: str,
        webhook_id: UUID,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Delivery] | None:
        return await self.faults.run(
            "list_deliveries", lambda: self.rows.mail.log(tenant_id, webhook_id, before, limit)
        )

    async def replay_delivery(
        self, tenant_id: str, webhook_id: UUID, delivery_id: UUID
    ) -> ReplayOutcome:
        return await self.faults.run(
            "replay_delivery",
            lambda: self.rows.mail.replay(tenant_id, webhook_id, delivery_id, self.now()),
        )

    # courier

    async def claim_deliveries(self, **asked: Any) -> list[Due]:
        return await self.faults.run(
            "claim_deliveries", lambda: self.rows.mail.claim(self.rows, self.now(), **asked)
        )

    async def mark_deliveries(self, marks: Sequence[Attempted]) -> list[UUID]:
        return await self.faults.run(
            "mark_deliveries", lambda: self.rows.mail.mark(marks, self.now())
        )

    async def due_delivery_age(self) -> float:
        return await self.faults.run("due_delivery_age", lambda: self.rows.mail.due_age(self.now()))

    # gauges

    async def read_gauges(self, tenant_ids: Sequence[str]) -> Gauges:
        return await self.faults.run("read_gauges", lambda: self._gauges(tenant_ids))

    def _gauges(self, tenant_ids: Sequence[str]) -> Gauges:
        rows, now = self.rows, self.now()
        status = {True: "QUEUED", False: "PROCESSING"}
        unstarted = [
            row
            for row in rows.live.values()
            if row.lease_id is None and row.lease_epoch == 0 and not row.quarantined
        ]
        oldest = min(unstarted, key=lambda row: row.expires_at, default=None)
        return Gauges(
            runs=Counter(
                (status[row.lease_id is None], row.pack_type) for row in rows.live.values()
            ),
            queue_age_s=0.0
            if oldest is None
            else max(0.0, (now - oldest.available_at).total_seconds()),
            heartbeats={
                node_id: node.last_heartbeat.timestamp()
                for node_id, node in rows.nodes.items()
                if node.left_at is None and now - node.last_heartbeat < timedelta(days=1)
            },
            balances={
                tenant_id: Micros(rows.budgets[tenant_id].available)
                for tenant_id in tenant_ids
                if tenant_id in rows.budgets
            },
            health=Health(
                dead_rows={},
                oldest_xmin_age=0,
                transactions=1,
                frozen_xid_age=0,
                waits_for_standby=False,
            ),
        )

    # operators

    async def create_tenant(self, tenant: NewTenant) -> Tenant | TenantExists:
        def body() -> Tenant | TenantExists:
            if tenant.tenant_id not in self.rows.tenants:
                self.rows.tenants[tenant.tenant_id] = TenantRow(
                    tenant_id=tenant.tenant_id, plan=tenant.plan, created_at=self.now()
                )
                self.rows.budgets[tenant.tenant_id] = BudgetRow(tenant_id=tenant.tenant_id)
                self._write_key(tenant.key, tenant.operator)
                if tenant.deposit > 0:
                    self._post(
                        Posting(
                            tenant_id=tenant.tenant_id,
                            kind=Kind.DEPOSIT,
                            amount=tenant.deposit,
                            reference=tenant.reference,
                            operator=tenant.operator,
                        )
                    )
            elif tenant.key.key_id not in self.rows.keys:
                return TenantExists()
            made = self._tenant(tenant.tenant_id)
            assert made is not None
            return made

        return await self.faults.run("create_tenant", body)

    async def get_tenant(self, tenant_id: str) -> Tenant | None:
        return await self.faults.run("get_tenant", lambda: self._tenant(tenant_id))

    async def list_tenants(self, *, after: str, limit: int) -> list[Tenant]:
        def body() -> list[Tenant]:
            names = sorted(name for name in self.rows.tenants if name > after)[:limit]
            return [tenant for name in names if (tenant := self._tenant(name)) is not None]

        return await self.faults.run("list_tenants", body)

    async def set_plan(
        self,
        tenant_id: str,
        plan: str,
        *,
        operator: str,  # noqa: ARG002
    ) -> Tenant | None:
        def body() -> Tenant | None:
            if tenant_id in self.rows.tenants:
                self.rows.tenants[tenant_id].plan = plan
            return self._tenant(tenant_id)

        return await self.faults.run("set_plan", body)

    async def set_suspended(
        self,
        tenant_id: str,
        *,
        suspended: bool,
        operator: str,  # noqa: ARG002
    ) -> Tenant | None:
        def body() -> Tenant | None:
            if tenant_id in self.rows.tenants:
                self.rows.tenants[tenant_id].suspended = suspended
            return self._tenant(tenant_id)

        return await self.faults.run("set_suspended", body)

    async def create_key(self, key: NewKey, *, operator: str) -> Key | KeyRefusal | None:
        def body() -> Key | KeyRefusal | None:
            if key.tenant_id in self.rows.tenants and key.key_id not in self.rows.keys:
                decided = keyring.decide_new(key, self._standing(key.tenant_id, key.caller))
                if not isinstance(decided, NewKey):
                    return decided
                self._write_key(decided, operator)
            return self._key(key.key_id)

        return await self.faults.run("create_key", body)

    async def rotate_key(self, asked: Rotation) -> Rotated | TurnRefusal:
        def body() -> Rotated | TurnRefusal:
            old = self._key(asked.key_id)
            if old is not None and old.tenant_id != asked.tenant_id:
                old = None
            if asked.new_key_id not in self.rows.keys:
                standing = self._standing(asked.tenant_id, asked.caller)
                decided = keyring.decide_rotation(asked, old, self._heir(asked), standing)
                if not isinstance(decided, KeyTurn):
                    return decided
                self._write_key(decided.new, by_rotation(asked.key_id))
                self.rows.keys[asked.key_id].expires_at = decided.old_ends_at
            new, old = self._key(asked.new_key_id), self._key(asked.key_id)
            assert new is not None
            assert old is not None
            return Rotated(new, old)

        return await self.faults.run("rotate_key", body)

    async def note_uses(self, ages_s: Mapping[str, float]) -> int:
        def body() -> int:
            noted = 0
            for key_id, age_s in ages_s.items():
                row = self.rows.keys.get(key_id)
                used_at = self.now() - timedelta(seconds=age_s)
                hourly = timedelta(hours=1)
                if row is not None and (
                    row.last_used_at is None or row.last_used_at <= used_at - hourly
                ):
                    row.last_used_at = used_at
                    noted += 1
            return noted

        return await self.faults.run("note_uses", body)

    def _standing(self, tenant_id: str, caller: str | None) -> Standing:
        mine = [row for row in self.rows.keys.values() if row.tenant_id == tenant_id]
        day_ago = self.now() - timedelta(days=1)
        made = [row for row in mine if row.created_by.startswith(("key:", "rotation:"))]
        return Standing(
            caller=None if caller is None else self._key(caller),
            alive=sum(not self._is_dead(row) for row in mine),
            made=sum(row.created_at > day_ago for row in made),
            now=self.now(),
        )

    def _heir(self, asked: Rotation) -> Key | None:
        mark = (asked.tenant_id, by_rotation(asked.key_id))
        heirs = [row for row in self.rows.keys.values() if (row.tenant_id, row.created_by) == mark]
        newest = max(heirs, key=lambda row: (row.created_at, row.key_id), default=None)
        return None if newest is None else self._key(newest.key_id)

    async def list_keys(
        self, tenant_id: str, *, before: KeyPlace | None, limit: int, ended: bool
    ) -> list[Key]:
        def body() -> list[Key]:
            mine = [row for row in self.rows.keys.values() if row.tenant_id == tenant_id]
            order = sorted(mine, key=lambda row: (row.created_at, row.key_id), reverse=True)
            keys = [key for row in order if (key := self._key(row.key_id)) is not None]
            shown = [key for key in keys if ended or not key.ended]
            place = None if before is None else (before.created_at, before.key_id)
            return [k for k in shown if place is None or (k.created_at, k.key_id) < place][:limit]

        return await self.faults.run("list_keys", body)

    async def revoke_key(
        self,
        tenant_id: str,
        key_id: str,
        *,
        operator: str,  # noqa: ARG002
    ) -> bool:
        def body() -> bool:
            row = self.rows.keys.get(key_id)
            if row is None or row.tenant_id != tenant_id:
                return False
            row.revoked = True
            return True

        return await self.faults.run("revoke_key", body)

    async def post_transfer(self, posting: Posting) -> PostingOutcome:
        return await self.faults.run(
            "post_transfer", lambda: self._post(posting), waits_for=[posting.tenant_id]
        )

    async def tenant_of_run(self, run_id: UUID) -> str | None:
        def body() -> str | None:
            row = self.rows.submissions.get(run_id)
            return None if row is None else row.asked.tenant_id

        return await self.faults.run("tenant_of_run", body)

    async def list_findings(self) -> list[Finding]:
        return await self.faults.run("list_findings", self._open_findings)

    async def get_finding(self, finding_id: UUID) -> Finding | None:
        def body() -> Finding | None:
            return next((one for one in self.rows.findings if one.finding_id == finding_id), None)

        return await self.faults.run("get_finding", body)

    async def resolve_finding(self, asked: Resolving) -> ResolveOutcome:
        return await self.faults.run(
            "resolve_finding", lambda: fake_resolutions.resolve(self.rows, asked, self.now())
        )

    def _open_findings(self) -> list[Finding]:
        return [one for one in self.rows.findings if one.resolved_at is None]

    async def read_orders(self, node_id: str) -> Orders:
        def body() -> Orders:
            node = self.rows.nodes.get(node_id)
            drain = node is not None and node.drain is not None
            return Orders(self.rows.in_force(self.now()).mode, drain)

        return await self.faults.run("read_orders", body)

    async def report_node(self, report: Report) -> None:
        def body() -> None:
            row = self.rows.nodes.setdefault(report.node_id, NodeRow(self.now()))
            row.report, row.reported_at = report, self.now()

        await self.faults.run("report_node", body)

    async def set_mode(self, new: NewMode) -> ModeChange:
        def body() -> ModeChange:
            left_s, now = new.expires_in_s, self.now()
            until = None if left_s is None else now + timedelta(seconds=left_s)
            change = ModeChange(
                mode=new.mode,
                reason=new.reason,
                operator=new.operator,
                set_at=now,
                expires_at=until,
            )
            return self.rows.modes.setdefault(new.change_id, change)

        return await self.faults.run("set_mode", body)

    async def mode(self) -> Mode:
        return await self.faults.run("mode", lambda: self.rows.in_force(self.now()).mode)

    async def list_modes(self, limit: int) -> list[ModeChange]:
        def body() -> list[ModeChange]:
            return list(reversed(self.rows.modes.values()))[:limit]

        return await self.faults.run("list_modes", body)

    async def list_members(self, node_id: str | None = None) -> list[Member]:
        def body() -> list[Member]:
            names = sorted(name for name in self.rows.nodes if node_id in (None, name))
            return [self._member(name) for name in names]

        return await self.faults.run("list_members", body)

    def _member(self, node_id: str) -> Member:
        row, now = self.rows.nodes[node_id], self.now()
        untils = [
            one.lease_until
            for one in self.rows.leases.values()
            if one.lease.node_id == node_id and one.lease_until > now
        ]
        return Member(
            node_id=node_id,
            now=now,
            last_heartbeat=row.last_heartbeat,
            lease_until=max(untils, default=None),
            left_at=row.left_at,
            drain=row.drain,
            report=row.report,
            reported_at=row.reported_at,
        )

    async def ask_drain(self, node_id: str, *, operator: str, reason: str) -> bool:
        def body() -> bool:
            row = self.rows.nodes.get(node_id)
            if row is not None and row.drain is None:
                row.drain = Drain(asked_at=self.now(), operator=operator, reason=reason)
            return row is not None

        return await self.faults.run("ask_drain", body)

    async def end_drain(self, node_id: str) -> bool:
        def body() -> bool:
            row = self.rows.nodes.get(node_id)
            if row is not None:
                row.drain = None
            return row is not None

        return await self.faults.run("end_drain", body)

    async def list_nodes(self) -> list[Node]:
        def body() -> list[Node]:
            alive = [r for r in self.rows.leases.values() if r.lease_until > self.now()]
            order = sorted(alive, key=lambda row: (row.lease.node_id, row.lease_until))
            return [Node(r.lease.node_id, r.lease.lease_id, r.lease_until) for r in order]

        return await self.faults.run("list_nodes", body)

    async def audit(self) -> Audit:
        return await self.faults.run("audit", lambda: fake_audit.audit(self.rows))

    async def sample_results(self, limit: int) -> list[Pointer]:
        def body() -> list[Pointer]:
            large = [
                Pointer(
                    key=BlobKey.of(
                        asked.tenant_id, self.rows.submissions[run_id].created_at, whose
                    ),
                    name=row.ending.result.key,
                    sha256=row.ending.result.sha256,
                )
                for run_id, row in sorted(self.rows.endings.items())
                if isinstance(row.ending.result, StoredResult)
                if self.now() < self.rows.submissions[run_id].served_until(row)
                for asked in [self.rows.submissions[run_id].asked]
                for whose in [Attempt(run_id, row.ending.lease_epoch)]
            ]
            return large[:limit]

        return await self.faults.run("sample_results", body)

    def _write_key(self, key: NewKey, operator: str) -> None:
        expires_at, allowance_id = key.expires_at, key.allowance_id
        if key.lives_s is not None:
            expires_at = self.now() + timedelta(seconds=key.lives_s)
        if key.spend_limit is not None:
            allowance_id = key.key_id
            self.rows.allowances[allowance_id] = Allowance(allowance_id, key.spend_limit, ZERO)
        row = KeyRow(
            key_id=key.key_id,
            tenant_id=key.tenant_id,
            secret_sha256=key.secret_sha256,
            scopes=key.scopes,
            created_at=self.now(),
            created_by=operator,
            expires_at=expires_at,
            allowance_id=allowance_id,
        )
        earlier = self.rows.keys.setdefault(key.key_id, row)
        assert earlier.secret_sha256 == key.secret_sha256

    def _post(self, posting: Posting) -> PostingOutcome:
        budget = self.rows.budgets.get(posting.tenant_id)
        if budget is None:
            return TenantUnknown()
        row = self.rows.transfers.get((posting.tenant_id, posting.reference))
        earlier = None
        if row is not None:
            of = row.posting
            earlier = EarlierTransfer(of.kind.value, of.amount, of.run_id)
        run = self.rows.refundable(posting.tenant_id, posting.run_id)
        decided = ledger.decide(posting, ledger.Read(Micros(budget.available), earlier, run))
        if decided is True:
            self.rows.write_transfer(posting, self.now())
        elif decided is not False:
            return decided
        return Posted(budget.as_budget())

    def _tenant(self, tenant_id: str) -> Tenant | None:
        row = self.rows.tenants.get(tenant_id)
        if row is None:
            return None
        return Tenant(
            tenant_id=tenant_id,
            plan=row.plan,
            suspended=row.suspended,
            frozen=row.frozen,
            created_at=row.created_at,
            budget=self.rows.budgets[tenant_id].as_budget(),
        )

    def _free(self, tenant_id: str) -> bool:
        """Say whether the tenant has a budget row, and nobody holds it."""
        return tenant_id in self.rows.budgets and not self.faults.holds(tenant_id)
