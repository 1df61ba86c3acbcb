"""Ports: every verb that is asked of the store; the table of contents of what DPP does.

Two implementations pass the same contract suite: `dpp.store.postgres` and the tests' fake, which
shares the pure decisions and keeps its rows in dictionaries. Every verb is atomic, takes and
returns values, may be asked again under the same identity, and raises `StoreUnavailable` when
nothing was committed or it is unknown. A verb that was handed over runs to its end; cancelling the
caller abandons the wait and nothing else.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol
from uuid import UUID

from attrs import frozen

from dpp.admission import Admission, Busy, Submission
from dpp.auditing import Mark, Offence
from dpp.blobs import Attempt, BlobKey, Linking, Looked, Metadata, Pointer
from dpp.cancels import CancelOutcome
from dpp.chronicles import Backlog, Bookmark, Happening, Position
from dpp.claims import Claim, Claimed, LeftStoring, Seen
from dpp.findings import Audit, AuditedPage, Finding, ResolveOutcome
from dpp.gauges import Gauges
from dpp.keyring import KeyRefusal, Rotated, TurnRefusal
from dpp.keys import Key, KeyPlace, NewKey, Rotation
from dpp.leases import Fence, Lapse, LeaseGone, Node, NodeLease, Renewal
from dpp.ledger import Budget, Entry, Posting, PostingOutcome
from dpp.listings import EVERYTHING, RunFilter, RunPage
from dpp.membership import Member, Report
from dpp.messages import Depths, Message, Sighting
from dpp.modes import Mode, ModeChange, NewMode, Orders
from dpp.pricing import Appraisal, PackFacts
from dpp.receipts import Receipt, Unresolved
from dpp.resolutions import Resolving
from dpp.retention import Overdue, Pruned
from dpp.runs import Run, Status
from dpp.settlement import End, Settlement
from dpp.tenants import NewTenant, Tenant, TenantExists
from dpp.usage import Usage
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


class Submissions(Protocol):
    """What the intake asks."""

    async def submit_runs(
        self, batch: Sequence[Submission], *, wait: bool
    ) -> list[Admission | Busy]: ...


class Ordering(Protocol):
    """What a node asks about itself."""

    async def read_orders(self, node_id: str) -> Orders:
        """Return the mode in force, and whether this node shall drain."""
        ...

    async def report_node(self, report: Report) -> None:
        """Write down what the node says of itself."""
        ...


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
        """Requeue these attempts, no attempt spent; returns how many were still held.

        One that nobody submitted is set aside instead, and not counted.
        """
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

    async def claimed_under(
        self, lease: NodeLease, known: Sequence[Fence] = ()
    ) -> list[Claimed] | LeaseGone:
        """Wait for any open claim under this lease; return its attempts that are not `known`."""
        ...


class Sightings(Protocol):
    """What the poller asks."""

    async def sight_runs(self, run_ids: Sequence[UUID]) -> list[Sighting]:
        """Return those of these runs that there are, live or ended, in any order."""
        ...


class Settlements(Protocol):
    """What the settler asks."""

    async def end_runs(self, batch: Sequence[End], *, wait: bool) -> list[Settlement | Busy]: ...

    async def quarantine_run(self, seen: Seen, evidence: Mapping[str, Any]) -> bool:
        """Set a run aside if it is as seen: a finding, its tenant frozen, no money moved."""
        ...


class Reaping(Protocol):
    """What the reaper asks."""

    async def end_frozen(self) -> int:
        """End transactions of frozen clients, which hold rows for ever; returns how many."""
        ...

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


class Gauging(Protocol):
    """What the gauges ask."""

    async def read_gauges(self, tenant_ids: Sequence[str]) -> Gauges:
        """Return what is shown of the database; of balances those of these tenants."""
        ...


class Following(Protocol):
    """What the follower asks."""

    async def follow(
        self, executing: Sequence[UUID], watching: Sequence[Watch], events: Sequence[RunEvent]
    ) -> Changes:
        """Store events out; bring cancels, watched runs and their events in; 1 s on the server."""
        ...


class Reads(Protocol):
    """What HTTP reads for a tenant; each one statement."""

    async def get_run(self, tenant_id: str, run_id: UUID) -> Run | None: ...

    async def get_runs(self, tenant_id: str, run_ids: Sequence[UUID]) -> list[Run]:
        """Return those of these runs that the tenant has, in any order."""
        ...

    async def read_chronicle(
        self, tenant_id: str, run_id: UUID, *, after: Position, limit: int
    ) -> Backlog | None:
        """Return a run's state and what was told of it behind `after`; None = no such run."""
        ...

    async def list_runs(
        self,
        tenant_id: str,
        *,
        before: UUID | None,
        limit: int,
        matching: RunFilter = EVERYTHING,
    ) -> RunPage:
        """Return runs newest first, older than `before`; a page looks at so many and no more."""
        ...

    async def get_budget(self, tenant_id: str) -> Budget: ...

    async def list_transfers(
        self, tenant_id: str, *, before: int | None, limit: int
    ) -> list[Entry]:
        """Return ledger entries newest first, with a seq under `before`."""
        ...

    async def get_receipt(self, tenant_id: str, run_id: UUID) -> Receipt | Unresolved | None:
        """Return a run's receipt, or how far the run is; None = the tenant has no such run."""
        ...

    async def is_closed(self, tenant_id: str, seq: int) -> bool:
        """Say whether the closing entry covers this place: what stood there may have left."""
        ...

    async def is_pruned(self, tenant_id: str, run_id: UUID) -> bool:
        """Say whether the tenant had such a run and it is past retention."""
        ...

    async def get_usage(self, tenant_id: str, *, first: date | None, last: date | None) -> Usage:
        """Return the usage of a period of UTC days, its ends included.

        `last` None = today by the database, `first` None = 30 days in all. Of a period that is
        longer than a year the ends alone are told.
        """
        ...

    async def find_key(self, key_id: str) -> Key | None: ...

    async def ping(self) -> None:
        """Ask the database for its time; raises `StoreUnavailable`."""
        ...


class Cancels(Protocol):
    """What the cancel handler asks; the store owns its transaction."""

    async def cancel_run(self, tenant_id: str, run_id: UUID) -> CancelOutcome: ...


class Keys(Protocol):
    """What tenants and operators ask about API keys."""

    async def create_key(self, key: NewKey, *, operator: str) -> Key | KeyRefusal | None:
        """Store a key, or say what its `caller` may not hand on; None = no such tenant."""
        ...

    async def rotate_key(self, asked: Rotation) -> Rotated | TurnRefusal:
        """Replace a key by a new one; the old one ends after the overlap."""
        ...

    async def list_keys(
        self, tenant_id: str, *, before: KeyPlace | None, limit: int, ended: bool
    ) -> list[Key]:
        """Return a tenant's keys newest first, behind `before`; with `ended` the ended ones too."""
        ...

    async def revoke_key(self, tenant_id: str, key_id: str, *, operator: str) -> bool:
        """Revoke a key, once; False = the tenant has no such key."""
        ...


class Pruning(Protocol):
    """What the pruner asks; of each, at most so many at a time, and returns how many."""

    async def retention_due(self, *, after: str, limit: int) -> list[Overdue]:
        """Return tenants by name behind `after`, and what there is to do for each."""
        ...

    async def prune_bodies(self, tenant_id: str, *, most: int) -> int:
        """Take inputs and results away that are served no more."""
        ...

    async def close_books(self, tenant_id: str, *, facts_max: int) -> int:
        """Move the closing entry over facts that are old enough."""
        ...

    async def prune(self, tenant_id: str, *, most: int) -> Pruned:
        """Take old runs and transfers away that the closing entry covers."""
        ...

    async def forget_keys(self, *, most: int) -> int:
        """Forget keys that have outlived their runs for long enough."""
        ...


class KeyUses(Protocol):
    """What the keyring asks."""

    async def note_uses(self, ages_s: Mapping[str, float]) -> int:
        """Note how many seconds ago keys were used, at most hourly a key; returns of how many."""
        ...


class Admin(Keys, Protocol):
    """What the admin API asks."""

    async def create_tenant(self, tenant: NewTenant) -> Tenant | TenantExists: ...

    async def get_tenant(self, tenant_id: str) -> Tenant | None: ...

    async def list_tenants(self, *, after: str, limit: int) -> list[Tenant]: ...

    async def set_plan(self, tenant_id: str, plan: str, *, operator: str) -> Tenant | None: ...

    async def set_suspended(
        self, tenant_id: str, *, suspended: bool, operator: str
    ) -> Tenant | None: ...

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

    async def set_mode(self, new: NewMode) -> ModeChange:
        """Put all nodes into a mode, once per change id."""
        ...

    async def mode(self) -> Mode:
        """Return the mode in force."""
        ...

    async def list_modes(self, limit: int) -> list[ModeChange]:
        """Return who asked for which mode, newest first."""
        ...

    async def list_members(self, node_id: str | None = None) -> list[Member]:
        """Return every node that has a row, by its id, or this one."""
        ...

    async def ask_drain(self, node_id: str, *, operator: str, reason: str) -> bool:
        """Ask a node to drain; the first asking stands. False = there is no such node."""
        ...

    async def end_drain(self, node_id: str) -> bool:
        """Let a node work again. False = there is no such node."""
        ...

    async def list_nodes(self) -> list[Node]:
        """Return the nodes whose lease lives."""
        ...

    async def audit(self) -> Audit: ...

    async def sample_results(self, limit: int) -> list[Pointer]:
        """Return where some large results must lie: those that follow a random one."""
        ...


class Webhooks(Protocol):
    """What handlers ask about a tenant's endpoints."""

    async def create_webhook(self, new: NewWebhook) -> Webhook | TooManyWebhooks: ...

    async def get_webhook(self, tenant_id: str, webhook_id: UUID) -> Webhook | None: ...

    async def list_webhooks(
        self, tenant_id: str, *, before: UUID | None, limit: int
    ) -> list[Webhook]:
        """Return endpoints newest first, older than `before`."""
        ...

    async def change_webhook(
        self, tenant_id: str, webhook_id: UUID, change: WebhookChange
    ) -> Webhook | None: ...

    async def delete_webhook(self, tenant_id: str, webhook_id: UUID) -> bool: ...

    async def rotate_webhook(
        self, tenant_id: str, webhook_id: UUID, secret: bytes
    ) -> Webhook | None:
        """Give it this secret; the one before signs too, for a while."""
        ...

    async def list_deliveries(
        self,
        tenant_id: str,
        webhook_id: UUID,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Delivery] | None:
        """Return deliveries newest first, before `before`; None = there is no such endpoint."""
        ...

    async def replay_delivery(
        self, tenant_id: str, webhook_id: UUID, delivery_id: UUID
    ) -> ReplayOutcome:
        """Set a delivery due again, its attempts anew."""
        ...


class Outbox(Protocol):
    """What the courier asks."""

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
        """Take due deliveries, by endpoint after `after`; nobody else has them for `hold_s`.

        Of each endpoint as many as `rooms` says, else `per_endpoint`; of all endpoints of a tenant
        together as many as `tenant_rooms` says, else `per_tenant`. Whose tenant had no room left
        had no turn: the claim may bring fewer than `limit` while others wait behind.
        """
        ...

    async def mark_deliveries(self, marks: Sequence[Attempted]) -> list[UUID]:
        """Write down what became of attempts; returns the endpoints that were disabled for it."""
        ...

    async def due_delivery_age(self) -> float:
        """Return for how many seconds the delivery that is due longest has been so; 0 = none."""
        ...


class Store(
    Webhooks,
    Outbox,
    Submissions,
    Ordering,
    Leases,
    Claims,
    Sightings,
    Settlements,
    Reaping,
    Storing,
    Reconciling,
    Auditing,
    Gauging,
    Following,
    Reads,
    Cancels,
    KeyUses,
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
        """Wait for the admission; raises `StoreUnavailable` where the mailbox is full.

        `Unanswered` is one: the time that a client waits is up.
        """
        ...

    async def submit_batch(
        self, batch: Sequence[Submission]
    ) -> list[Admission | ItemBroken | None]:
        """Wait for all; None = dropped: a 503 for that item, safe to retry."""
        ...


class Listening(Protocol):
    """One stream's place at the feed of a run."""

    @property
    def reached(self) -> Position:
        """How far the feed was when this stream joined: read the backlog up to there."""
        ...

    async def news(self) -> Sequence[Happening]:
        """Wait for what happens next. Empty = over: the node drains, or too much was not taken."""
        ...

    def leave(self) -> None:
        """Take nothing more."""
        ...


class Watching(Protocol):
    """The watchboard: how a handler waits for a run without asking the database."""

    def join(self, watch: Watch, bookmark: Bookmark) -> Listening | None:
        """Join the feed of a run, which starts at `bookmark` where nobody streams the run yet.

        None when the node drains, or watches enough.
        """
        ...

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

    def facts(self, pack_type: str) -> PackFacts | None:
        """Return what clients are told of a pack; None = it is not loaded here."""
        ...


# ── between the HTTP handlers and the store of large results ─────────────────────────────────────


class Results(Protocol):
    """Where large results lie. Each verb may be asked again, and raises `CouldNotAsk`."""

    async def check(self, key: BlobKey) -> Looked:
        """Verify the whole object under `key`, holding no more of it than a piece."""
        ...

    async def piece(self, key: BlobKey, there: Metadata, start: int, length: int) -> bytes:
        """Return these bytes of the body of the object that was checked, and no fewer."""
        ...

    async def link(self, key: BlobKey, method: str) -> Linking | None:
        """Return where a client may fetch the object by itself; None = this store has no links."""
        ...


class Findings(Protocol):
    """What a handler asks when a result is not what its ending says."""

    async def open_finding(
        self, invariant: str, subject: str, tenant_id: str, evidence: Mapping[str, Any]
    ) -> bool:
        """Open a finding that freezes nobody; False = it is open already."""
        ...


# ── Redis, where there is one: a helper, of which nothing is asked that must be right ─────────────


@frozen
class Counted:
    """What a shared counter says: its count, this one included, and in how many seconds it ends."""

    count: int
    left_s: float


class SharedCounts(Protocol):
    """Counters that all nodes share, each over `WINDOW_S` from its first count."""

    async def count(self, name: str) -> Counted:
        """Count one more; raises `HelperUnavailable` within a fraction of a second."""
        ...


class Channel(Protocol):
    """Where the nodes of a deployment tell each other."""

    async def publish(self, message: bytes) -> None:
        """Tell all that hear it now; raises `HelperUnavailable`."""
        ...

    async def hear(self) -> Sequence[bytes]:
        """Wait for messages, a second at most; raises `HelperUnavailable`."""
        ...


# ── SQS, where there is one: a helper as well ────────────────────────────────────────────────────


class Queue(Protocol):
    """Where a hint for each new run lies until one of the nodes takes it out."""

    async def send(self, run_ids: Sequence[UUID]) -> int:
        """Put in a message for each of these runs, 10 at most; return how many were taken.

        Raises `HelperUnavailable` within seconds: some, all or none of them may be in it.
        """
        ...

    async def receive(self) -> Sequence[Message]:
        """Take out up to 10 messages, waiting up to 20 s; [] = none came.

        What is not deleted comes again after 120 s. Raises `HelperUnavailable`.
        """
        ...

    async def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages that were taken out, 10 at most; raises `HelperUnavailable`."""
        ...

    async def depths(self) -> Depths:
        """Return how much lies in it and among the dead; raises `HelperUnavailable`."""
        ...
