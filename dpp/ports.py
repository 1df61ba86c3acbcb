"""Ports: every verb that is asked of the store; the table of contents of what DPP does.

Two implementations pass the same contract suite: `dpp.store.postgres` and the tests' fake, which
shares the pure decisions and keeps its rows in dictionaries. Every verb is atomic, takes and
returns values, may be asked again under the same identity, and raises `StoreUnavailable` when
nothing was committed or it is unknown. A verb that was handed over runs to its end; cancelling the
caller abandons the wait and nothing else.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from attrs import frozen

from dpp.admission import Admission, Busy, Submission
from dpp.auditing import Mark, Offence
from dpp.blobs import Attempt
from dpp.leases import Fence, Lapse, NodeLease
from dpp.ledger import Budget, Entry, Posting, PostingOutcome
from dpp.money import Micros
from dpp.pricing import Appraisal
from dpp.resolutions import Resolving, Unresolved
from dpp.runs import Run, Status
from dpp.settlement import End, Settlement

# ── leases and claims ────────────────────────────────────────────────────────────────────────────


@frozen
class Renewal:
    """`held`: the lease row was there and alive.

    `fences`: every live row stamped with it. `now`: the database's.
    """

    held: bool
    now: datetime
    fences: tuple[Fence, ...]


@frozen
class Turn:
    """A tenant to claim from; the store looks up its plan's cap.

    `lows`: one `available_at` bound a priority, ten or none; None = no bound. A bound spares dead
    rows: nothing below it is claimed.
    """

    tenant_id: str
    lows: tuple[datetime | None, ...] = ()


@frozen(kw_only=True)
class Claim:
    """What a claimer asks for: at most `limit` runs, `per_tenant` of each, of these packs."""

    lease: NodeLease
    turns: tuple[Turn, ...]
    per_tenant: int
    limit: int
    packs: tuple[str, ...]


@frozen(kw_only=True)
class Claimed:
    """An attempt that is ours: its fence, its run, and what executing it needs."""

    fence: Fence
    tenant_id: str
    pack_type: str
    inputs: bytes
    max_cost: Micros
    minimum_fee: Micros
    timebox_s: int
    priority: int
    available_at: datetime
    attempt: int
    trace_id: str
    created_at: datetime


@frozen
class LeaseGone:
    """The lease has lapsed or was ended: nothing was claimed, nothing ever will be under it."""


# ── what the reaper sees ─────────────────────────────────────────────────────────────────────────


@frozen
class Seen:
    """A live row as an unlocked scan saw it; a take-back names it in its WHERE."""

    run_id: UUID
    tenant_id: str
    lease_id: UUID | None
    lease_epoch: int


@frozen(kw_only=True)
class LeftStoring:
    """A run that was left while its result was stored; `created_at` is part of the object's key."""

    seen: Seen
    max_cost: Micros
    created_at: datetime


# ── the node's one ear ───────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class RunEvent:
    """Progress or a charge, numbered by its attempt; kept while that holds its run."""

    fence: Fence
    tenant_id: str
    n: int
    kind: str
    fraction: float | None = None
    note: str | None = None
    amount: Micros | None = None


@frozen
class Watch:
    """A run that somebody waits for."""

    tenant_id: str
    run_id: UUID


@frozen
class Changes:
    """`canceled`: executed here, and a cancel was asked.

    `runs`: every watched run that is still there, as it is.
    """

    canceled: tuple[UUID, ...]
    runs: tuple[Run, ...]


# ── tenants and keys ─────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Tenant:
    """A tenant with its budget."""

    tenant_id: str
    plan: str
    suspended: bool
    frozen: bool
    created_at: datetime
    budget: Budget


@frozen(kw_only=True)
class Key:
    """An API key as stored: never its secret.

    `expires_in_s`: by the database's clock at the time of reading.
    """

    key_id: str
    tenant_id: str
    secret_sha256: bytes
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    expires_in_s: float | None = None
    revoked: bool = False
    plan: str = ""
    suspended: bool = False


@frozen(kw_only=True)
class NewKey:
    """A key to store; `lives_s` None = until revoked."""

    key_id: str
    tenant_id: str
    secret_sha256: bytes
    scopes: tuple[str, ...]
    lives_s: int | None = None


@frozen(kw_only=True)
class NewTenant:
    """A tenant to make, its first key and, where `deposit` > 0, its first deposit."""

    tenant_id: str
    plan: str
    key: NewKey
    deposit: Micros
    reference: str
    operator: str


@frozen
class TenantExists:
    """There is a tenant of this name; nothing was changed."""


# ── cancel, audit ────────────────────────────────────────────────────────────────────────────────


@frozen
class CancelAsked:
    """The run is being executed; its node will feel it."""

    run: Run


@frozen
class Ended:
    """The run is terminal: ended by this cancel, or before it."""

    run: Run


@frozen
class RunUnknown:
    """The tenant has no such run."""


CancelOutcome: TypeAlias = CancelAsked | Ended | RunUnknown


@frozen
class Verdict:
    """One invariant of the audit: what it claims, and the first offenders (none = it holds).

    `accepted`: how many more there are that an operator accepted as they are.
    """

    name: str
    claim: str
    offenders: tuple[Mapping[str, Any], ...]
    accepted: int = 0


@frozen
class Finding:
    """A finding: an invariant, whom it concerns, the evidence; once resolved, how and by whom."""

    finding_id: UUID
    invariant: str
    subject: str
    tenant_id: str | None
    evidence: Mapping[str, Any]
    opened_at: datetime
    resolved_at: datetime | None = None
    resolution: Mapping[str, Any] | None = None


@frozen
class Audit:
    """One pass over one snapshot."""

    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Say whether every invariant holds and no finding is open."""
        return not self.findings and not any(verdict.offenders for verdict in self.verdicts)


@frozen(kw_only=True)
class AuditedPage:
    """One look of the auditor, over one snapshot.

    `marks`: of the tenants that moved, where they are now. `offences`: what no finding tells of
    yet. `after`: where the next page begins, None = the pass is over.
    """

    marks: Mapping[str, Mark]
    offences: tuple[Offence, ...]
    after: str | None
    findings_open: int


@frozen
class Resolved:
    """The finding is resolved, as asked; `frozen`: its tenant still is, by another finding."""

    finding: Finding
    frozen: bool


@frozen
class ResolvedAlready:
    """Somebody resolved the finding before, in another way."""

    finding: Finding


@frozen
class FindingUnknown:
    """There is no such finding."""


ResolveOutcome: TypeAlias = Resolved | ResolvedAlready | FindingUnknown | Unresolved


@frozen
class Node:
    """A living node, by its lease row."""

    node_id: str
    lease_id: UUID
    lease_until: datetime


class Submissions(Protocol):
    """What the intake asks."""

    async def submit_runs(
        self, batch: Sequence[Submission], *, wait: bool
    ) -> list[Admission | Busy]: ...


class Leases(Protocol):
    """What the tenure asks."""

    async def take_lease(
        self, lease: NodeLease, *, lease_s: float, hand_back: Sequence[NodeLease]
    ) -> datetime:
        """Insert the lease row; end `hand_back` first, their runs free.

        Returns the database's time.
        """
        ...

    async def renew_lease(self, lease: NodeLease, *, lease_s: float) -> Renewal:
        """Move `lease_until`, if the lease still lives."""
        ...

    async def end_lease(self, lease: NodeLease, *, hand_back: bool) -> int:
        """Delete the lease row; with `hand_back` its runs wait again, else the reaper has them.

        Returns how many somebody held at that moment: asked again, they are handed back too.
        """
        ...

    async def hand_back_runs(self, fences: Sequence[Fence]) -> int:
        """Requeue these attempts, no attempt spent; returns how many were still held."""
        ...

    async def end_earlier_leases(self, lease: NodeLease) -> int:
        """Delete lease rows of this node's earlier tenures; their runs are then the reaper's."""
        ...


class Claims(Protocol):
    """What the claimer asks."""

    async def queued_tenants(self, after: str, limit: int) -> list[str]:
        """Return tenants with queued runs, by name, after `after`: a loose index scan."""
        ...

    async def claim_runs(self, claim: Claim) -> list[Claimed] | LeaseGone:
        """Stamp due runs with the lease; raises `ClaimUnknown` when the COMMIT got no answer."""
        ...

    async def claimed_under(self, lease: NodeLease) -> list[Claimed] | LeaseGone:
        """Wait for any open claim under this lease, then return every attempt stamped with it."""
        ...


class Settlements(Protocol):
    """What the settler asks."""

    async def end_runs(self, batch: Sequence[End], *, wait: bool) -> list[Settlement | Busy]: ...

    async def quarantine_run(self, seen: Seen, evidence: Mapping[str, Any]) -> bool:
        """Set a run aside if it is as seen: a finding, its tenant frozen, no money moved."""
        ...


class Reaping(Protocol):
    """What the reaper asks."""

    async def reap_lease(self) -> NodeLease | None:
        """Delete one lapsed lease row that nobody holds; None = there is none."""
        ...

    async def orphaned_runs(self, limit: int) -> list[Seen]:
        """Return PROCESSING runs whose lease has no row."""
        ...

    async def overdue_runs(self, limit: int, *, grace_s: float) -> list[Seen]:
        """Return PROCESSING runs whose deadline passed `grace_s` ago."""
        ...

    async def unstarted_runs(self, limit: int) -> list[Seen]:
        """Return QUEUED runs, never started, past their `expires_at`."""
        ...

    async def take_back(self, seen: Sequence[Seen], lapse: Lapse, *, storing: bool = False) -> int:
        """Requeue or end these runs where they are still as seen; returns how many were taken.

        `storing`: those that store a result, which are the reconciler's, and no others.
        """
        ...

    async def expire_runs(self, seen: Sequence[Seen]) -> int:
        """End these runs EXPIRED where they still wait and were never started; returns how many."""
        ...


class Storing(Protocol):
    """What an executor asks before it stores a large result."""

    async def mark_storing(self, fence: Fence) -> bool:
        """Make the run the reconciler's; False = the attempt was lost."""
        ...


class Reconciling(Protocol):
    """What the reconciler asks."""

    async def storing_runs(
        self, *, after: UUID | None, limit: int, grace_s: float
    ) -> list[LeftStoring]:
        """Return runs that were left storing, by run id: no lease row, or overdue by `grace_s`."""
        ...

    async def end_runs(self, batch: Sequence[End], *, wait: bool) -> list[Settlement | Busy]: ...

    async def take_back(
        self, seen: Sequence[Seen], lapse: Lapse, *, storing: bool = False
    ) -> int: ...

    async def quarantine_run(self, seen: Seen, evidence: Mapping[str, Any]) -> bool: ...

    async def open_finding(
        self, invariant: str, subject: str, tenant_id: str, evidence: Mapping[str, Any]
    ) -> bool:
        """Open a finding that freezes nobody; False = it is open already."""
        ...

    async def kept_objects(self, attempts: Sequence[Attempt]) -> frozenset[Attempt]:
        """Return those of these attempts whose objects an ending or a live row still needs."""
        ...

    async def store_id(self, name: str) -> UUID | None:
        """Return the id of a store of results; None before its first use."""
        ...

    async def keep_store_id(self, name: str, store_id: UUID) -> UUID:
        """Keep the id of a store at its first use; returns the one that is kept."""
        ...


class Auditing(Protocol):
    """What the auditor asks."""

    async def audit_page(
        self, marks: Mapping[str, Mark], *, after: str, tenants_max: int, facts_max: int
    ) -> AuditedPage:
        """Look at what moved since these marks, of tenants by name behind `after`; it is bounded.

        Reads, and as a role that cannot write.
        """
        ...

    async def open_findings(
        self, tenant_id: str, offences: Sequence[Offence], mark: Mark
    ) -> list[Finding]:
        """Look at these offences of a tenant again, under its budget lock, and open their findings.

        Those that are none any more are left out; the first freezes the tenant's new submissions.
        """
        ...


class Following(Protocol):
    """What the follower asks."""

    async def follow(
        self, executing: Sequence[UUID], watching: Sequence[Watch], events: Sequence[RunEvent]
    ) -> Changes:
        """Store events out, bring cancels and watched runs in; bounded to 1 s on the server."""
        ...


class Reads(Protocol):
    """What HTTP reads for a tenant; each one statement."""

    async def get_run(self, tenant_id: str, run_id: UUID) -> Run | None: ...

    async def get_runs(self, tenant_id: str, run_ids: Sequence[UUID]) -> list[Run]:
        """Return those of these runs that the tenant has, in any order."""
        ...

    async def list_runs(
        self, tenant_id: str, *, before: UUID | None, limit: int, idempotency_key: str | None = None
    ) -> list[Run]:
        """Return runs newest first, older than `before`."""
        ...

    async def get_budget(self, tenant_id: str) -> Budget: ...

    async def list_transfers(
        self, tenant_id: str, *, before: int | None, limit: int
    ) -> list[Entry]:
        """Return ledger entries newest first, with a seq under `before`."""
        ...

    async def find_key(self, key_id: str) -> Key | None: ...

    async def ping(self) -> None:
        """Ask the database for its time; raises `StoreUnavailable`."""
        ...


class Cancels(Protocol):
    """What the cancel handler asks; the store owns its transaction."""

    async def cancel_run(self, tenant_id: str, run_id: UUID) -> CancelOutcome: ...


class Admin(Protocol):
    """What the admin API asks."""

    async def create_tenant(self, tenant: NewTenant) -> Tenant | TenantExists: ...

    async def get_tenant(self, tenant_id: str) -> Tenant | None: ...

    async def list_tenants(self, *, after: str, limit: int) -> list[Tenant]: ...

    async def set_plan(self, tenant_id: str, plan: str, *, operator: str) -> Tenant | None: ...

    async def set_suspended(
        self, tenant_id: str, *, suspended: bool, operator: str
    ) -> Tenant | None: ...

    async def create_key(self, key: NewKey, *, operator: str) -> Key | None:
        """Store a key; None = no such tenant."""
        ...

    async def list_keys(self, tenant_id: str) -> list[Key]: ...

    async def revoke_key(self, tenant_id: str, key_id: str, *, operator: str) -> bool: ...

    async def post_transfer(self, posting: Posting) -> PostingOutcome: ...

    async def tenant_of_run(self, run_id: UUID) -> str | None:
        """Return whose run this is; None = there is no such run."""
        ...

    async def list_findings(self) -> list[Finding]:
        """Return the findings that are open, oldest first."""
        ...

    async def get_finding(self, finding_id: UUID) -> Finding | None: ...

    async def resolve_finding(self, asked: Resolving) -> ResolveOutcome:
        """Do what an operator decided about an open finding; the last one thaws its tenant."""
        ...

    async def list_nodes(self) -> list[Node]: ...

    async def audit(self) -> Audit: ...


class Store(
    Submissions,
    Leases,
    Claims,
    Settlements,
    Reaping,
    Storing,
    Reconciling,
    Auditing,
    Following,
    Reads,
    Cancels,
    Admin,
    Protocol,
):
    """All of it: what `open_store` gives to the node."""


# ── between the HTTP handlers and the actors ─────────────────────────────────────────────────────


@frozen
class ItemBroken:
    """The store refused this one item of a batch: a bug of ours. Nothing was written for it."""


class Intake(Protocol):
    """The intake's mailboxes as a handler sees them."""

    async def submit(self, submission: Submission) -> Admission:
        """Wait for the admission; raises `StoreUnavailable` where the mailbox is full."""
        ...

    async def submit_batch(
        self, batch: Sequence[Submission]
    ) -> list[Admission | ItemBroken | None]:
        """Wait for all; None = dropped: a 503 for that item, safe to retry."""
        ...


class Watching(Protocol):
    """The watchboard: how a handler waits for a run without asking the database."""

    async def wait_terminal(self, watch: Watch, seen: Status) -> Run | None:
        """Wait until the run is terminal and return it; None when the node drains first."""
        ...

    def hint(self, run_id: UUID) -> None:
        """Wake the follower: something about this run changed."""
        ...


class Appraiser(Protocol):
    """The packs of this node as a handler sees them."""

    @property
    def pack_types(self) -> tuple[str, ...]: ...

    def appraise(self, pack_type: str, inputs: Mapping[str, Any]) -> Appraisal:
        """Say what these inputs cost, or what is wrong with them."""
        ...

    def version(self, pack_type: str) -> str: ...
