"""The store on PostgreSQL: every verb, and where it is asked.

Lock order of every transaction: node_leases → tenant_turns → budgets (by tenant) → live_runs (by
run) → tenants, nodes, findings → inserts, usage last. All row locks are `for no key update`, but
for the claim's key share on its lease row and the `for update` that ends or asks for one.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import trio
from attrs import frozen

from dpp.admission import Admission, Busy, Submission
from dpp.auditing import Mark, Offence, Sums
from dpp.blobs import Attempt, Pointer
from dpp.cancels import CancelOutcome
from dpp.claims import Claim, Claimed, LeftStoring, Seen
from dpp.faults import PageBroken, StoreBroken, StoreUnavailable, told
from dpp.findings import Audit, AuditedPage, Finding, ResolutionRefused, ResolveOutcome
from dpp.keys import Key, NewKey
from dpp.leases import Fence, Lapse, LeaseGone, Node, NodeLease, Renewal
from dpp.ledger import Budget, Entry, Posting, PostingOutcome
from dpp.logs import get_logger
from dpp.plans import Plans
from dpp.resolutions import Refold, Resolving
from dpp.runs import Run
from dpp.settlement import End, Settlement
from dpp.store import (
    auditing,
    audits,
    cancels,
    claims,
    endings,
    findings,
    following,
    leases,
    reads,
    resolutions,
    storing,
    submissions,
    tenants,
    transfers,
)
from dpp.store.bridge import Bridge
from dpp.store.connections import Address
from dpp.store.desk import AUDIT_WALL_S, FOLLOW_WALL_S, Desk, Sizes
from dpp.store.queries import queries
from dpp.tenants import NewTenant, Tenant, TenantExists
from dpp.watches import Changes, RunEvent, Watch


@frozen(kw_only=True)
class Limits:
    """The numbers that verbs decide by; from the configuration."""

    attempts_max: int
    queue_ttl_s: int


CLOSE_S = 1.0  # it waits for nothing but the bridge's next turn

log = get_logger(__name__)


class PostgresStore:
    """Implements `dpp.ports.Store`. Made by `open_postgres`; every method runs on the bridge."""

    def __init__(self, desk: Desk, limits: Limits) -> None:
        self.plans: Plans = {}
        self._desk = desk
        self._limits = limits

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
            queue_ttl_s=self._limits.queue_ttl_s,
        )
        if wait and batch:
            return await self._desk.ask_lane("submit_runs", batch[0].tenant_id, verb, len(batch))
        return await self._desk.ask("submit_runs", self._desk.work, verb)

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
        """Requeue attempts, no attempt spent."""
        return await self._desk.ask(
            "hand_back_runs",
            self._desk.work,
            partial(
                endings.hand_back_runs,
                fences=fences,
                ending_ids=[uuid4() for _ in fences],
                attempts_max=self._limits.attempts_max,
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

    async def claimed_under(self, lease: NodeLease) -> list[Claimed] | LeaseGone:
        """Return every attempt stamped with the lease."""
        return await self._desk.ask(
            "claimed_under", self._desk.work, partial(claims.claimed_under, lease=lease)
        )

    # endings

    async def end_runs(self, batch: Sequence[End], *, wait: bool) -> list[Settlement | Busy]:
        """See `dpp.store.endings`."""
        verb = partial(
            endings.end_runs, batch=batch, wait=wait, attempts_max=self._limits.attempts_max
        )
        if wait and batch:
            return await self._desk.ask_lane("end_runs", batch[0].tenant_id, verb, len(batch))
        return await self._desk.ask("end_runs", self._desk.work, verb)

    async def quarantine_run(self, seen: Seen, evidence: Mapping[str, Any]) -> bool:
        """Set a run aside with a finding."""
        verb = partial(findings.quarantine_run, seen=seen, evidence=evidence, finding_id=uuid4())
        return await self._desk.ask("quarantine_run", self._desk.work, verb)

    # reaper

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
            attempts_max=self._limits.attempts_max,
            storing=storing,
        )
        return await self._desk.ask("take_back", self._desk.work, verb)

    async def expire_runs(self, seen: Sequence[Seen]) -> int:
        """End runs EXPIRED that were never started."""
        verb = partial(endings.expire_runs, seen=seen, ending_ids=[uuid4() for _ in seen])
        return await self._desk.ask("expire_runs", self._desk.work, verb)

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

    # follower

    async def follow(
        self, executing: Sequence[UUID], watching: Sequence[Watch], events: Sequence[RunEvent]
    ) -> Changes:
        """See `dpp.store.following`."""
        verb = partial(following.follow, executing=executing, watching=watching, events=events)
        return await self._desk.ask(
            "follow", self._desk.keep, verb, once=True, wall_s=FOLLOW_WALL_S
        )

    # reads

    async def get_run(self, tenant_id: str, run_id: UUID) -> Run | None:
        """Return a run of this tenant."""
        return await self._desk.ask(
            "get_run", self._desk.read, partial(reads.get_run, tenant_id=tenant_id, run_id=run_id)
        )

    async def get_runs(self, tenant_id: str, run_ids: Sequence[UUID]) -> list[Run]:
        """Return those of these runs that the tenant has."""
        verb = partial(
            reads.watched_runs, watching=[Watch(tenant_id, run_id) for run_id in run_ids]
        )
        return list(await self._desk.ask("get_runs", self._desk.read, verb))

    async def list_runs(
        self, tenant_id: str, *, before: UUID | None, limit: int, idempotency_key: str | None = None
    ) -> list[Run]:
        """Return a page of runs, newest first."""
        verb = partial(
            reads.list_runs,
            tenant_id=tenant_id,
            before=before,
            limit=limit,
            idempotency_key=idempotency_key,
        )
        return await self._desk.ask("list_runs", self._desk.read, verb)

    async def get_budget(self, tenant_id: str) -> Budget:
        """Return the tenant's budget."""
        return await self._desk.ask(
            "get_budget", self._desk.read, partial(reads.get_budget, tenant_id=tenant_id)
        )

    async def list_transfers(
        self, tenant_id: str, *, before: int | None, limit: int
    ) -> list[Entry]:
        """Return a page of the tenant's ledger."""
        verb = partial(reads.list_transfers, tenant_id=tenant_id, before=before, limit=limit)
        return await self._desk.ask("list_transfers", self._desk.read, verb)

    async def find_key(self, key_id: str) -> Key | None:
        """Return a key."""
        return await self._desk.ask(
            "find_key", self._desk.read, partial(reads.find_key, key_id=key_id)
        )

    async def ping(self) -> None:
        """Ask the database for its time."""
        await self._desk.ask("ping", self._desk.read, queries.ping.fetch, once=True, wall_s=2.0)

    # cancel

    async def cancel_run(self, tenant_id: str, run_id: UUID) -> CancelOutcome:
        """See `dpp.store.cancels`."""
        ending_id = uuid4()
        verb = partial(cancels.cancel_run, tenant_id=tenant_id, run_id=run_id, ending_id=ending_id)
        bug: Exception
        try:
            return await self._desk.ask_row("cancel_run", tenant_id, verb)
        except PageBroken as broken:
            bug = broken
        except (StoreUnavailable, StoreBroken):
            raise
        except Exception as error:  # noqa: BLE001 - whatever refuses it
            bug = error
        # The database refuses to end this run: it is set aside.
        names = {"run_id": str(run_id), "tenant_id": tenant_id}
        log.critical("cancel refused", **names, reconcile_type="write_refused", exc_info=bug)
        why = f"{type(bug).__name__}: {bug}"
        evidence = {"verb": "cancel_run", "error": why, "ending_id": str(ending_id), **names}
        noted = partial(
            cancels.set_aside,
            tenant_id=tenant_id,
            run_id=run_id,
            evidence=evidence,
            finding_id=uuid4(),
        )
        return await self._desk.ask("set_aside", self._desk.work, noted)

    # operators

    async def create_tenant(self, tenant: NewTenant) -> Tenant | TenantExists:
        """Make a tenant, its first key and deposit."""
        return await self._desk.ask(
            "create_tenant", self._desk.work, partial(tenants.create_tenant, new=tenant)
        )

    async def get_tenant(self, tenant_id: str) -> Tenant | None:
        """Return a tenant with its budget."""
        return await self._desk.ask(
            "get_tenant", self._desk.read, partial(tenants.get_tenant, tenant_id=tenant_id)
        )

    async def list_tenants(self, *, after: str, limit: int) -> list[Tenant]:
        """Return tenants by name."""
        return await self._desk.ask(
            "list_tenants", self._desk.read, partial(tenants.list_tenants, after=after, limit=limit)
        )

    async def set_plan(
        self,
        tenant_id: str,
        plan: str,
        *,
        operator: str,  # noqa: ARG002 - who asks has it in the log
    ) -> Tenant | None:
        """Put a tenant on another plan."""
        return await self._desk.ask(
            "set_plan", self._desk.work, partial(tenants.set_plan, tenant_id=tenant_id, plan=plan)
        )

    async def set_suspended(
        self,
        tenant_id: str,
        *,
        suspended: bool,
        operator: str,  # noqa: ARG002 - the same
    ) -> Tenant | None:
        """Suspend or resume a tenant."""
        verb = partial(tenants.set_suspended, tenant_id=tenant_id, suspended=suspended)
        return await self._desk.ask("set_suspended", self._desk.work, verb)

    async def create_key(self, key: NewKey, *, operator: str) -> Key | None:
        """Store a key; None = no such tenant."""
        return await self._desk.ask(
            "create_key", self._desk.work, partial(tenants.create_key, new=key, operator=operator)
        )

    async def list_keys(self, tenant_id: str) -> list[Key]:
        """Return a tenant's keys."""
        return await self._desk.ask(
            "list_keys", self._desk.read, partial(tenants.list_keys, tenant_id=tenant_id)
        )

    async def revoke_key(self, tenant_id: str, key_id: str, *, operator: str) -> bool:
        """Revoke a key; False = the tenant has no such key."""
        verb = partial(tenants.revoke_key, tenant_id=tenant_id, key_id=key_id, operator=operator)
        return await self._desk.ask("revoke_key", self._desk.work, verb)

    async def post_transfer(self, posting: Posting) -> PostingOutcome:
        """Post a transfer, once per (tenant, reference)."""
        verb = partial(transfers.post_transfer, posting=posting)
        return await self._desk.ask_row("post_transfer", posting.tenant_id, verb)

    async def tenant_of_run(self, run_id: UUID) -> str | None:
        """Return whose run this is."""
        verb = partial(transfers.tenant_of_run, run_id=run_id)
        return await self._desk.ask("tenant_of_run", self._desk.read, verb)

    async def list_findings(self) -> list[Finding]:
        """Return open findings."""
        return await self._desk.ask("list_findings", self._desk.read, audits.list_findings)

    async def get_finding(self, finding_id: UUID) -> Finding | None:
        """Return a finding, open or resolved."""
        verb = partial(resolutions.get_finding, finding_id=finding_id)
        return await self._desk.ask("get_finding", self._desk.read, verb)

    async def resolve_finding(self, asked: Resolving) -> ResolveOutcome:
        """Do what an operator decided about a finding."""
        finding = await self.get_finding(asked.finding_id)
        whose = "" if finding is None or finding.tenant_id is None else finding.tenant_id
        folded = (0, Sums())
        if isinstance(asked.remedy, Refold) and whose:
            fold = partial(auditing.fold, tenant_id=whose)
            folded = await self._desk.ask("fold", self._desk.auditor, fold, wall_s=AUDIT_WALL_S)
        verb = partial(resolutions.resolve_finding, asked=asked, folded=folded)
        try:
            return await self._desk.ask_row("resolve_finding", whose, verb)
        except (StoreUnavailable, StoreBroken) as fault:
            if not isinstance(fault, PageBroken):
                raise
            refused: Exception = fault
        except Exception as error:  # noqa: BLE001 - whatever the finding was about may refuse this too
            refused = error
        log.error("resolving refused", finding_id=str(asked.finding_id), exc_info=refused)
        return ResolutionRefused(f"nothing was changed; mend this first: {told(refused)}")

    async def list_nodes(self) -> list[Node]:
        """Return the nodes whose lease lives."""
        rows = await self._desk.ask("list_nodes", self._desk.read, queries.list_nodes.fetch)
        return [Node(row["node_id"], row["lease_id"], row["lease_until"]) for row in rows]

    async def audit(self) -> Audit:
        """Ask every invariant, on a connection that can only read."""
        return await self._desk.ask("audit", self._desk.auditor, audits.audit, wall_s=AUDIT_WALL_S)

    async def sample_results(self, limit: int) -> list[Pointer]:
        """Return where some large results must lie."""
        verb = partial(storing.sample, limit=limit)
        return await self._desk.ask("sample_results", self._desk.read, verb)

    async def close(self) -> None:
        """Drop every idle connection."""
        await self._desk.close()


@asynccontextmanager
async def open_postgres(
    bridge: Bridge, address: Address, auditor: Address, sizes: Sizes, limits: Limits
) -> AsyncIterator[PostgresStore]:
    """Give a store whose connections are opened when first needed."""
    store = PostgresStore(Desk(bridge, address, auditor, sizes), limits)
    try:
        yield store
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await store.close()
