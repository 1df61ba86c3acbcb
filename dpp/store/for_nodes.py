"""The verbs that actors ask: submit, lease, claim, end, take back, audit, follow, note."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from dpp.admission import Admission, Busy, Submission
from dpp.auditing import Mark, Offence
from dpp.blobs import Attempt
from dpp.claims import Claim, Claimed, LeftStoring, Seen
from dpp.findings import AuditedPage, Finding
from dpp.gauges import Gauges
from dpp.leases import Fence, Lapse, LeaseGone, NodeLease, Renewal
from dpp.membership import Report
from dpp.messages import Sighting
from dpp.modes import Orders
from dpp.retention import Overdue, Pruned
from dpp.settlement import End, Settlement
from dpp.store import (
    auditing,
    claims,
    endings,
    findings,
    following,
    gauges,
    keys,
    leases,
    orders,
    reads,
    retention,
    storing,
    submissions,
    webhooks,
)
from dpp.store.desk import AUDIT_WALL_S, FOLLOW_WALL_S
from dpp.store.queries import queries
from dpp.store.verbs import Verbs
from dpp.watches import Changes, RunEvent, Watch
from dpp.webhooks import Attempted, Due


class ForNodes(Verbs):
    """What a node asks for its work and its upkeep."""

    # intake

    async def submit_runs(
        self, batch: Sequence[Submission], *, wait: bool
    ) -> list[Admission | Busy]:
        """See `dpp.store.submissions`."""
        verb = partial(
            submissions.submit_runs,
            batch=batch,
            wait=wait,
            plans=self.plans,
            terms=self.limits.terms,
        )
        if wait and batch:
            return await self._desk.ask_lane("submit_runs", batch[0].tenant_id, verb, len(batch))
        return await self._desk.ask("submit_runs", self._desk.work, verb)

    # orders

    async def read_orders(self, node_id: str) -> Orders:
        """Return what this node is told."""
        verb = partial(orders.read_orders, node_id=node_id)
        return await self._desk.ask("read_orders", self._desk.read, verb)

    async def report_node(self, report: Report) -> None:
        """Write down what a node says of itself."""
        verb = partial(orders.report_node, report=report)
        await self._desk.ask("report_node", self._desk.work, verb)

    # leases

    async def take_lease(
        self, lease: NodeLease, *, lease_s: float, hand_back: Sequence[NodeLease]
    ) -> datetime:
        """Insert the lease row; end `hand_back` first, their runs free."""
        verb = partial(leases.take_lease, lease=lease, lease_s=lease_s, hand_back=hand_back)
        return await self._desk.ask("take_lease", self._desk.keep, verb)

    async def renew_lease(self, lease: NodeLease, *, lease_s: float) -> Renewal:
        """Move `lease_until`. Asked once: a renewal that got no answer did not happen."""
        verb = partial(leases.renew_lease, lease=lease, lease_s=lease_s)
        return await self._desk.ask("renew_lease", self._desk.keep, verb, once=True)

    async def end_lease(self, lease: NodeLease, *, hand_back: bool) -> int:
        """Delete the lease row, handing its runs back or leaving them to the reaper."""
        return await self._desk.ask(
            "end_lease",
            self._desk.keep,
            partial(leases.end_lease, lease=lease, hand_back=hand_back),
        )

    async def hand_back_runs(self, fences: Sequence[Fence]) -> int:
        """Requeue attempts, no attempt spent; set aside what nobody submitted."""
        return await self._desk.ask(
            "hand_back_runs",
            self._desk.work,
            partial(
                endings.hand_back_runs,
                fences=fences,
                ids=[uuid4() for _ in fences],
                attempts_max=self.limits.attempts_max,
            ),
        )

    async def end_earlier_leases(self, lease: NodeLease) -> int:
        """Delete lease rows of earlier tenures of this node id."""
        return await self._desk.ask(
            "end_earlier_leases", self._desk.work, partial(leases.end_earlier_leases, lease=lease)
        )

    # claims

    async def queued_tenants(self, after: str, limit: int) -> list[str]:
        """Return tenants with queued runs."""
        verb = partial(claims.queued_tenants, after=after, limit=limit)
        return await self._desk.ask("queued_tenants", self._desk.work, verb)

    async def claim_runs(self, claim: Claim) -> list[Claimed] | LeaseGone:
        """Stamp due runs with the lease. Asked once: an unknown COMMIT is `ClaimUnknown`."""
        verb = partial(claims.claim_runs, claim=claim, plans=self.plans)
        return await self._desk.ask("claim_runs", self._desk.work, verb, once=True)

    async def claimed_under(
        self, lease: NodeLease, known: Sequence[Fence] = ()
    ) -> list[Claimed] | LeaseGone:
        """Return the attempts stamped with the lease that are not known."""
        return await self._desk.ask(
            "claimed_under",
            self._desk.work,
            partial(claims.claimed_under, lease=lease, known=known, plans=self.plans),
        )

    async def sight_runs(self, run_ids: Sequence[UUID]) -> list[Sighting]:
        """Return the runs that there are."""
        verb = partial(claims.sight_runs, run_ids=run_ids)
        return await self._desk.ask("sight_runs", self._desk.read, verb)

    # endings

    async def end_runs(self, batch: Sequence[End], *, wait: bool) -> list[Settlement | Busy]:
        """See `dpp.store.endings`."""
        verb = partial(
            endings.end_runs, batch=batch, wait=wait, attempts_max=self.limits.attempts_max
        )
        if wait and batch:
            return await self._desk.ask_lane("end_runs", batch[0].tenant_id, verb, len(batch))
        return await self._desk.ask("end_runs", self._desk.work, verb)

    async def quarantine_run(self, seen: Seen, evidence: Mapping[str, Any]) -> bool:
        """Set a run aside with a finding."""
        verb = partial(findings.quarantine_run, seen=seen, evidence=evidence, finding_id=uuid4())
        return await self._desk.ask("quarantine_run", self._desk.work, verb)

    # reaper

    async def end_frozen(self) -> int:
        """End transactions of frozen clients; returns how many."""
        return await self._desk.ask("end_frozen", self._desk.work, leases.end_frozen)

    async def reap_lease(self) -> NodeLease | None:
        """Delete one lapsed lease row.

        Asked once: whatever became of it, the orphan scan finds the runs.
        """
        return await self._desk.ask("reap_lease", self._desk.work, leases.reap_lease, once=True)

    async def orphaned_runs(self, limit: int) -> list[Seen]:
        """Return PROCESSING runs whose lease has no row."""
        verb = partial(reads.seen_runs, query=queries.orphaned_runs, limit=limit)
        return await self._desk.ask("orphaned_runs", self._desk.work, verb)

    async def overdue_runs(self, limit: int, *, grace_s: float) -> list[Seen]:
        """Return PROCESSING runs whose deadline passed `grace_s` ago."""
        verb = partial(reads.seen_runs, query=queries.overdue_runs, limit=limit, grace_s=grace_s)
        return await self._desk.ask("overdue_runs", self._desk.work, verb)

    async def unstarted_runs(self, limit: int) -> list[Seen]:
        """Return QUEUED runs past their `expires_at`, never started."""
        verb = partial(reads.seen_runs, query=queries.unstarted_runs, limit=limit)
        return await self._desk.ask("unstarted_runs", self._desk.work, verb)

    async def take_back(self, seen: Sequence[Seen], lapse: Lapse, *, storing: bool = False) -> int:
        """Requeue or end runs where they are still as seen."""
        verb = partial(
            endings.take_back,
            seen=seen,
            lapse=lapse,
            ending_ids=[uuid4() for _ in seen],
            attempts_max=self.limits.attempts_max,
            storing=storing,
        )
        return await self._desk.ask("take_back", self._desk.work, verb)

    async def expire_runs(self, seen: Sequence[Seen]) -> int:
        """End runs EXPIRED that were never started."""
        verb = partial(endings.expire_runs, seen=seen, ending_ids=[uuid4() for _ in seen])
        return await self._desk.ask("expire_runs", self._desk.work, verb)

    # gauges

    async def read_gauges(self, tenant_ids: Sequence[str]) -> Gauges:
        """Return what is shown of the database. Asked once: the next reading comes soon."""
        verb = partial(gauges.read_gauges, tenant_ids=tenant_ids)
        return await self._desk.ask("read_gauges", self._desk.read, verb, once=True)

    # large results

    async def mark_storing(self, fence: Fence) -> bool:
        """Make the run the reconciler's, if the attempt still holds it."""
        return await self._desk.ask(
            "mark_storing", self._desk.work, partial(storing.mark, fence=fence)
        )

    async def storing_runs(
        self, *, after: UUID | None, limit: int, grace_s: float
    ) -> list[LeftStoring]:
        """Return runs that were left storing."""
        verb = partial(storing.left, after=after, limit=limit, grace_s=grace_s)
        return await self._desk.ask("storing_runs", self._desk.work, verb)

    async def open_finding(
        self, invariant: str, subject: str, tenant_id: str, evidence: Mapping[str, Any]
    ) -> bool:
        """Open a finding that freezes nobody."""
        verb = partial(
            findings.open_finding,
            invariant=invariant,
            subject=subject,
            tenant_id=tenant_id,
            evidence=evidence,
            finding_id=uuid4(),
        )
        return await self._desk.ask("open_finding", self._desk.work, verb)

    async def kept_objects(self, attempts: Sequence[Attempt]) -> frozenset[Attempt]:
        """Return the attempts whose objects must stay."""
        verb = partial(storing.kept_objects, attempts=attempts)
        return await self._desk.ask("kept_objects", self._desk.read, verb)

    async def store_id(self, name: str) -> UUID | None:
        """Return the id of a store of results."""
        return await self._desk.ask(
            "store_id", self._desk.work, partial(storing.store_id, name=name)
        )

    async def keep_store_id(self, name: str, store_id: UUID) -> UUID:
        """Keep the id of a store at its first use."""
        verb = partial(storing.keep_store_id, name=name, store_id=store_id)
        return await self._desk.ask("keep_store_id", self._desk.work, verb)

    # auditor

    async def audit_page(
        self, marks: Mapping[str, Mark], *, after: str, tenants_max: int, facts_max: int
    ) -> AuditedPage:
        """Look at what moved since these marks, on a connection that can only read."""
        verb = partial(
            auditing.audit_page,
            marks=marks,
            after=after,
            tenants_max=tenants_max,
            facts_max=facts_max,
        )
        # Where a run is looked for in a long ledger it takes a while; each statement is bounded.
        return await self._desk.ask(
            "audit_page", self._desk.auditor, verb, once=True, wall_s=AUDIT_WALL_S
        )

    async def open_findings(
        self, tenant_id: str, offences: Sequence[Offence], mark: Mark
    ) -> list[Finding]:
        """Look again, under the budget lock, and open findings."""
        verb = partial(
            auditing.open_findings,
            tenant_id=tenant_id,
            offences=offences,
            mark=mark,
            finding_ids=[uuid4() for _ in offences],
        )
        return await self._desk.ask_row("open_findings", tenant_id, verb)

    # pruner

    async def retention_due(self, *, after: str, limit: int) -> list[Overdue]:
        """Return what retention finds to do."""
        verb = partial(retention.due, keeping=self.limits.keeping, after=after, limit=limit)
        return await self._desk.ask("retention_due", self._desk.read, verb)

    async def prune_bodies(self, tenant_id: str, *, most: int) -> int:
        """Take inputs and results away that are served no more."""
        verb = partial(retention.prune_bodies, tenant_id=tenant_id, most=most)
        return await self._desk.ask("prune_bodies", self._desk.work, verb)

    async def close_books(self, tenant_id: str, *, facts_max: int) -> int:
        """Move a closing entry; asked again it goes on from where it stands."""
        verb = partial(
            retention.close_books,
            tenant_id=tenant_id,
            keeping=self.limits.keeping,
            facts_max=facts_max,
        )
        return await self._desk.ask("close_books", self._desk.work, verb)

    async def prune(self, tenant_id: str, *, most: int) -> Pruned:
        """Take old runs and transfers away; it waits its turn at the tenant's budget."""
        keeping = self.limits.keeping
        verb = partial(retention.prune, tenant_id=tenant_id, keeping=keeping, most=most)
        return await self._desk.ask_row("prune", tenant_id, verb)

    async def forget_keys(self, *, most: int) -> int:
        """Forget keys that outlived their runs."""
        verb = partial(retention.forget_keys, keeping=self.limits.keeping, most=most)
        return await self._desk.ask("forget_keys", self._desk.work, verb)

    # courier

    async def claim_deliveries(
        self,
        *,
        rooms: Mapping[UUID, int],
        per_endpoint: int,
        tenant_rooms: Mapping[str, int],
        per_tenant: int,
        after: UUID | None,
        limit: int,
        hold_s: float,
    ) -> list[Due]:
        """Take due deliveries. Asked once: those of an unknown COMMIT come again by themselves."""
        verb = partial(
            webhooks.claim_deliveries,
            rooms=rooms,
            per_endpoint=per_endpoint,
            tenant_rooms=tenant_rooms,
            per_tenant=per_tenant,
            after=after,
            limit=limit,
            hold_s=hold_s,
        )
        return await self._desk.ask("claim_deliveries", self._desk.work, verb, once=True)

    async def mark_deliveries(self, marks: Sequence[Attempted]) -> list[UUID]:
        """Write down what became of attempts."""
        verb = partial(webhooks.mark_deliveries, marks=marks)
        return await self._desk.ask("mark_deliveries", self._desk.work, verb)

    async def due_delivery_age(self) -> float:
        """Return for how long the delivery that is due longest has been so."""
        return await self._desk.ask(
            "due_delivery_age", self._desk.read, webhooks.due_delivery_age, once=True
        )

    # follower

    async def follow(
        self, executing: Sequence[UUID], watching: Sequence[Watch], events: Sequence[RunEvent]
    ) -> Changes:
        """See `dpp.store.following`."""
        verb = partial(following.follow, executing=executing, watching=watching, events=events)
        return await self._desk.ask(
            "follow", self._desk.keep, verb, once=True, wall_s=FOLLOW_WALL_S
        )

    # keyring

    async def note_uses(self, ages_s: Mapping[str, float]) -> int:
        """Note how many seconds ago keys were used; a batch that is lost costs nothing."""
        verb = partial(keys.note_uses, ages_s=ages_s)
        return await self._desk.ask("note_uses", self._desk.work, verb, once=True)
