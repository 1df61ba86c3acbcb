"""What a node counts, for `/metrics` on the management listener.

Every series is made here, with its help text and a bounded set of labels: no tenant, no run, no
path as the client wrote it. Whoever has something to count imports its metric; nothing reads a
figure back, least of all money. `declare` makes the labelled series that alerts read, so that they
stand at 0 from the start: an alert on a series that is not there yet never fires.
"""

from __future__ import annotations

import time
from collections import Counter as Counts
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import UntypedMetricFamily
from prometheus_client.registry import Collector

from dpp.turns import turned

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
RECONCILED = ("rolled_forward", "missing", "not_verified")
# Beside what the audit finds.
FOUND = ("write_refused", "object_astray", "object_not_asked", "object_not_verified")
# Of deliveries; dropped: never sent, since the endpoint is disabled or deleted by now.
DELIVERED = ("delivered", "retried", "failed", "gone", "dropped")
HINTS = ("told", "lost", "heard", "ignored")
REDIS_ASKED = ("count", "publish", "hear", "probe")
# Of messages of SQS. lost: not sent, or there was no room; unread: it names no run, or is no hint.
DISPATCHED = ("sent", "lost", "read", "unread")
SQS_ASKED = ("send", "receive", "delete", "depths", "probe")
PRUNED = ("bodies", "facts_closed", "runs", "transfers", "keys")
STATUSES = ("COMPLETED", "FAILED", "CANCELED", "EXPIRED")
MODES = ("normal", "no-submit", "drain")
OTHER = "other"  # the label of what a client made up
LIVE = ("QUEUED", "PROCESSING")
SEVERITIES = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# Of attempts that gave no ending: by whom the run was sent back to wait, or ended for them.
TAKEN_BACK = ("platform", "reaper", "reconciler")
THREADS = ("trio", "bridge")
DIFFERING = ("plans", "packs")
MICROS = 1_000_000  # a dollar
# A commit takes 1 to 5 ms; its limits are 2 s for a lock and 15 s for a transaction.
COMMIT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15)
# The guide promises a p95 under 100 ms; ?wait= holds a request for up to 60 s.
REQUEST_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# A run takes from a millisecond to its time box, an hour at most; the guide promises 120 s.
RUN_S = (0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 900, 3600)
LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series that nobody reads
_succeeded_at: dict[str, float] = {}  # by loop
REGISTRY = CollectorRegistry()  # our own, so that a library's metrics do not come along
ProcessCollector(registry=REGISTRY)

actor_restarts_total = Counter(
    "actor_restarts_total", "Restarts of an actor after a bug.", ("actor",), registry=REGISTRY
)
last_success_age_seconds = Gauge(
    "dpp_loop_last_success_age_seconds",
    "Seconds since a loop last did its work.",
    ("loop",),
    registry=REGISTRY,
)
pause_seconds = Gauge(
    "dpp_loop_pause_seconds",
    "What a loop sleeps between two turns, as its setting says; 0 = it is woken.",
    ("loop",),
    registry=REGISTRY,
)
mode_in_force = Gauge(
    "dpp_mode", "1 for the mode that operators have put all nodes in.", ("mode",), registry=REGISTRY
)
batch_size = Histogram(
    "dpp_batch_size",
    "Items that an actor committed in one transaction.",
    ("actor",),
    buckets=BATCH,
    registry=REGISTRY,
)
commit_seconds = Histogram(
    "dpp_commit_seconds",
    "Time of one transaction, from BEGIN to the answer of COMMIT.",
    ("verb",),
    buckets=COMMIT_S,
    registry=REGISTRY,
)
commits_unknown_total = Counter(
    "dpp_commits_unknown_total",
    "Commits whose answer was lost; the verb is asked again.",
    ("verb",),
    registry=REGISTRY,
)
commits_refused_total = Counter(
    "dpp_commits_refused_total",
    "Commits that PostgreSQL answered with ROLLBACK.",
    registry=REGISTRY,
)
store_unavailable_total = Counter(
    "dpp_store_unavailable_total",
    "Verbs that found no store: nothing was committed, or it is unknown.",
    ("verb",),
    registry=REGISTRY,
)
zombie_writes_refused_total = Counter(
    "dpp_zombie_writes_refused_total",
    "Writes of an attempt that had lost its lease; nothing was written.",
    ("verb",),
    registry=REGISTRY,
)
reconciled_total = Counter(
    "dpp_reconcile_total",
    "Runs left while their result was stored, by what the reconciler did.",
    ("outcome",),
    registry=REGISTRY,
)
findings_open = Gauge(
    "dpp_findings_open",
    "Findings that wait for an operator, in the whole database; the auditor counts them.",
    registry=REGISTRY,
)
findings_total = Counter(
    "dpp_findings_total", "Findings that this node opened.", ("invariant",), registry=REGISTRY
)
claims_total = Counter("dpp_claims_total", "Runs that this node claimed.", registry=REGISTRY)
runs_ended_total = Counter(
    "dpp_runs_ended_total", "Runs that this node ended.", ("status", "pack"), registry=REGISTRY
)
webhook_deliveries_total = Counter(
    "dpp_webhook_deliveries_total",
    "Attempts to deliver an event, by what became of them.",
    ("outcome",),
    registry=REGISTRY,
)
webhook_pending_age_seconds = Gauge(
    "dpp_webhook_pending_age_seconds",
    "Seconds since the delivery that is due longest became due; 0 = none is.",
    registry=REGISTRY,
)
http_requests_total = Counter(
    "http_requests_total",
    "Requests that were answered; the route is the template, not the path.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
http_request_duration_seconds = Histogram(
    "http_request_duration_seconds",
    "Time from the head of a request to the end of its answer; held: its client asked to wait.",
    ("route", "held"),
    buckets=REQUEST_S,
    registry=REGISTRY,
)
http_connections = Gauge(
    "http_connections", "Open connections of the public listener.", registry=REGISTRY
)
http_connection_faults_total = Counter(
    "http_connection_faults_total",
    "Connections that a bug of ours ended; the guard held it there.",
    registry=REGISTRY,
)


nodes_differing = Gauge(
    "dpp_nodes_differing",
    "Living nodes whose plans, or packs, are not this node's.",
    ["what"],
    registry=REGISTRY,
)


redis_up = Gauge(
    "dpp_redis_up", "1 while Redis answers; 1, too, where none is configured.", registry=REGISTRY
)
redis_up.set(1)
redis_faults_total = Counter(
    "dpp_redis_faults_total",
    "Questions that Redis did not answer, or not with sense.",
    ("asked",),
    registry=REGISTRY,
)
hints_total = Counter(
    "dpp_hints_total",
    "Bulletins of hints between nodes; lost: Redis was away, ignored: it was none.",
    ("outcome",),
    registry=REGISTRY,
)
sqs_up = Gauge(
    "dpp_sqs_up", "1 while SQS answers; 1, too, where none is configured.", registry=REGISTRY
)
sqs_up.set(1)
sqs_faults_total = Counter(
    "dpp_sqs_faults_total",
    "Questions that SQS did not answer, or refused.",
    ("asked",),
    registry=REGISTRY,
)
sqs_messages_total = Counter(
    "dpp_sqs_messages_total",
    "Hints of runs by way of SQS; unread: left there, since it names no run.",
    ("outcome",),
    registry=REGISTRY,
)
sqs_queue_depth = Gauge(
    "sqs_queue_depth",
    "Hints that wait in the queue, about; nodes do not need it.",
    ("queue",),
    registry=REGISTRY,
)
sqs_dead_letter_depth = Gauge(
    "sqs_dead_letter_depth",
    "Messages in the dead-letter queue: they named no run when they were read, three times.",
    registry=REGISTRY,
)
pruned_total = Counter(
    "dpp_pruned_total",
    "What this node let leave past retention; of facts_closed, what closing entries cover.",
    ("what",),
    registry=REGISTRY,
)
submits_shed_total = Counter(
    "dpp_submits_shed_total",
    "Submissions that were answered 429 without asking the database.",
    registry=REGISTRY,
)


runs_live = Gauge(
    "dpp_runs",
    "Runs of the whole database that wait or work; past ten thousand of a status about so many.",
    ("status", "pack"),
    registry=REGISTRY,
)
queue_age_seconds = Gauge(
    "dpp_queue_age_seconds",
    "Seconds that the oldest run waits which nobody has started; 0 = none waits.",
    registry=REGISTRY,
)
worker_last_heartbeat_timestamp = Gauge(
    "dpp_worker_last_heartbeat_timestamp",
    "When a node last renewed its lease, in seconds since 1970; of a day, none that left in order.",
    ("worker_id",),
    registry=REGISTRY,
)
budget_balance_usd = Gauge(
    "dpp_budget_balance_usd",
    "What a tenant of metrics.tenants may still spend, in dollars, to be shown alone.",
    ("tenant_id",),
    registry=REGISTRY,
)
database_status = Gauge(
    "dpp_readyz_database_status",
    "1 while this node's database answers, as its /readyz says; it looks by itself.",
    registry=REGISTRY,
)
postgres_dead_rows = Gauge(
    "dpp_postgres_dead_tuples",
    "Dead rows of a table that vacuum has not removed, as PostgreSQL estimates them.",
    ("table",),
    registry=REGISTRY,
)
postgres_oldest_xmin_age = Gauge(
    "dpp_postgres_oldest_xmin_age",
    "Transactions since the oldest one whose rows something still keeps from being vacuumed.",
    registry=REGISTRY,
)
postgres_xmin_held_seconds = Gauge(
    "dpp_postgres_xmin_held_seconds",
    "How long that oldest one has been the same while others came; 0 = it moves on.",
    registry=REGISTRY,
)
postgres_frozen_xid_age = Gauge(
    "dpp_postgres_frozen_xid_age",
    "Transactions since the oldest unfrozen row; PostgreSQL stops writing at two thousand million.",
    registry=REGISTRY,
)
postgres_waits_for_standby = Gauge(
    "dpp_postgres_waits_for_standby",
    "1 where a COMMIT waits for a standby; at 0 a failover may lose what was acknowledged.",
    registry=REGISTRY,
)
embedded_postgres_up = Gauge(
    "dpp_embedded_postgres_up",
    "1 while the embedded PostgreSQL answers; 1, too, where there is none.",
    registry=REGISTRY,
)
embedded_postgres_up.set(1)
redis_memory_bytes = Gauge(
    "dpp_redis_memory_bytes", "Memory that Redis uses; 0 = none, or not told.", registry=REGISTRY
)
db_pool_in_use = Gauge(
    "dpp_db_pool_in_use", "Connections of a pool that are lent out.", ("pool",), registry=REGISTRY
)
db_pool_size = Gauge(
    "dpp_db_pool_size",
    "Connections that a pool lends at once, at most.",
    ("pool",),
    registry=REGISTRY,
)
mailbox_depth = Gauge(
    "dpp_mailbox_depth", "Calls that wait in an actor's mailboxes.", ("actor",), registry=REGISTRY
)
mailbox_capacity = Gauge(
    "dpp_mailbox_capacity",
    "Calls that an actor's mailboxes hold; past that submissions get 503.",
    ("actor",),
    registry=REGISTRY,
)
loop_lag_seconds = Histogram(
    "dpp_loop_lag_seconds",
    "How late a timer fires (trio), or how long an empty operation takes (bridge).",
    ("thread",),
    buckets=LAG_S,
    registry=REGISTRY,
)
lease_age_seconds = Gauge(
    "dpp_lease_age_seconds",
    "Seconds since this node's lease was last renewed; 0 = it has none.",
    registry=REGISTRY,
)
run_duration_seconds = Histogram(
    "dpp_run_duration_seconds",
    "Time of an attempt that ended its run, from its claim to its settlement.",
    ("pack",),
    buckets=RUN_S,
    registry=REGISTRY,
)
runs_submitted_total = Counter(
    "dpp_runs_submitted_total",
    "Runs that this node took in.",
    ("pack",),
    registry=REGISTRY,
)
endings_total = Counter(
    "dpp_endings_total",
    "Endings that this node wrote, for its own runs and as reaper, reconciler or cancel.",
    ("status",),
    registry=REGISTRY,
)
reserved_micros_total = Counter(
    "dpp_reserved_micros_total",
    "Micro-dollars that this node reserved for runs.",
    registry=REGISTRY,
)
settled_micros_total = Counter(
    "dpp_settled_micros_total",
    "Micro-dollars of reserves that this node settled as cost.",
    registry=REGISTRY,
)
returned_micros_total = Counter(
    "dpp_returned_micros_total",
    "Micro-dollars of reserves that this node gave back.",
    registry=REGISTRY,
)
runs_taken_back_total = Counter(
    "dpp_runs_taken_back_total",
    "Attempts that were lost, by who found it; the run waits again, or ended free.",
    ("by",),
    registry=REGISTRY,
)
store_retries_total = Counter(
    "dpp_store_retries_total", "Verbs that were asked again.", ("verb",), registry=REGISTRY
)
reaper_scans_total = Counter(
    "dpp_reaper_scans_total", "Passes of the reaper that came to their end.", registry=REGISTRY
)
leases_reaped_total = Counter(
    "dpp_leases_reaped_total", "Lapsed leases that this node deleted.", registry=REGISTRY
)
reconcile_passes_total = Counter(
    "dpp_reconcile_passes_total",
    "Passes of the reconciler that came to their end.",
    registry=REGISTRY,
)


class LogEntries(Collector):
    """`log_entries`: a counter under exactly this name, which the library's own cannot have."""

    def __init__(self) -> None:
        self._counts: Counts[tuple[str, str]] = Counts()
        self._known = {""}
        self._lock = Lock()  # the bridge's thread logs too

    def declare(self, reconcile_types: Iterable[str]) -> None:
        """Make the series that alerts read; other reconcile types count as one."""
        with self._lock:
            for severity in SEVERITIES:
                self._counts[severity, ""] += 0
            for kind in (*reconcile_types, OTHER):
                self._known.add(kind)
                self._counts["CRITICAL", kind] += 0

    def count(self, severity: str, reconcile_type: str) -> None:
        """Count a line."""
        kind = reconcile_type if reconcile_type in self._known else OTHER
        with self._lock:
            self._counts[severity, kind] += 1

    def collect(self) -> Iterator[UntypedMetricFamily]:
        """Yield the one family."""
        words = "Lines of the log, counted before repetitions are left out; it only rises."
        family = UntypedMetricFamily("log_entries", words, labels=("severity", "reconcile_type"))
        with self._lock:
            counts = sorted(self._counts.items())
        for labels, count in counts:
            family.add_metric(labels, count)
        yield family


log_entries = LogEntries()
REGISTRY.register(log_entries)


def note_runs(runs: Mapping[tuple[str, str], int], packs: Iterable[str]) -> None:
    """Note how many runs there are by status and pack; those of packs unknown here are one."""
    known = frozenset(packs)
    shown = Counts(dict.fromkeys(((status, pack) for status in LIVE for pack in known), 0))
    for (status, pack), count in runs.items():
        shown[status, pack if pack in known else OTHER] += count
    runs_live.clear()
    for labels, count in shown.items():
        runs_live.labels(*labels).set(count)


def note_all(gauge: Gauge, values: Mapping[str, float]) -> None:
    """Let a gauge with one label show these and no others."""
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)


def note_lease(*, held: bool) -> None:
    """Note that the lease was taken or renewed just now, or is over."""
    now = _now()
    lease_age_seconds.set_function(partial(_since, now) if held else _none)


def watch_mailboxes(actor: str, depth: Callable[[], float], capacity: int) -> None:
    """Let the depth of an actor's mailboxes be asked whenever it is read."""
    mailbox_depth.labels(actor).set_function(depth)
    mailbox_capacity.labels(actor).set(capacity)


def watch_pool(pool: str, in_use: Callable[[], float], size: int) -> None:
    """Let the connections in use be asked whenever they are read."""
    db_pool_in_use.labels(pool).set_function(in_use)
    db_pool_size.labels(pool).set(size)


def note_differing(counts: Mapping[str, int]) -> None:
    """Note how many nodes differ, by what."""
    for what, count in counts.items():
        nodes_differing.labels(what).set(count)


def observe_request(
    method: str, route: str | None, status: int, seconds: float, *, held: bool = False
) -> None:
    """Count one answered request. `route` is the template of the table, None where none matched.

    `held`: its client asked to wait for something, so its time says nothing of ours.
    """
    verb, template = method if method in METHODS else OTHER, route or OTHER
    counter, histogram = _of_requests(verb, template, status, "yes" if held else "no")
    counter.inc()
    histogram.observe(seconds)


@cache  # each request asks for two of the same few
def _of_requests(verb: str, template: str, status: int, held: str) -> tuple[Counter, Histogram]:
    code = str(status) if 100 <= status <= 599 else OTHER  # noqa: PLR2004 - what HTTP knows
    return (
        http_requests_total.labels(verb, template, code),
        http_request_duration_seconds.labels(template, held),
    )


def note_mode(mode: str) -> None:
    """Note which mode is in force."""
    for name in MODES:
        mode_in_force.labels(name).set(name == mode)


def succeeded(loop: str) -> None:
    """Note that a loop has done its work now; its age is counted from here."""
    _succeeded_at[loop] = _now()
    turned(loop)
    last_success_age_seconds.labels(loop).set_function(partial(_since, _succeeded_at[loop]))


def loop_ages() -> dict[str, float]:
    """Return seconds since each loop last did its work, for the node's report of itself."""
    return {loop: round(_since(moment), 1) for loop, moment in sorted(_succeeded_at.items())}


def _since(moment: float) -> float:
    return _now() - moment


def _none() -> float:
    return 0.0


def _now() -> float:
    return time.monotonic()  # noqa: TID251 - an age to show: nothing waits for it


def declare(
    *,
    actors: Iterable[str] = (),
    loops: Mapping[str, float] | None = None,
    verbs: Iterable[str] = (),
    packs: Collection[str] = (),
    invariants: Iterable[str] = (),
    reconcile_types: Iterable[str] = (),
) -> None:
    """Make the series of these actors, loops, verbs, packs, invariants. Called once, at start.

    `loops`: what each sleeps between two turns, in seconds: the alert gives it so much more time.
    `reconcile_types`: what critical lines of the log may say of findings, beside `FOUND`.
    """
    for loop, pause_s in (loops or {}).items():
        succeeded(loop)
        pause_seconds.labels(loop).set(pause_s)
    for actor in actors:
        actor_restarts_total.labels(actor)
        batch_size.labels(actor)
    for verb in verbs:
        for metric in (
            *(commits_unknown_total, store_unavailable_total, store_retries_total),
            zombie_writes_refused_total,
        ):
            metric.labels(verb)
        commit_seconds.labels(verb)
    for pack in packs:
        for status in STATUSES:
            runs_ended_total.labels(status, pack)
        run_duration_seconds.labels(pack)
        runs_submitted_total.labels(pack)
    note_runs({}, packs)
    declare_outcomes()
    log_entries.declare((*reconcile_types, *FOUND))
    for invariant in (*invariants, *FOUND):
        findings_total.labels(invariant)
    # What an alert on errors divides by, before the first request.
    for code in ("200", "500", "503"):
        http_requests_total.labels("GET", OTHER, code)
    http_request_duration_seconds.labels(OTHER, "no")


def declare_outcomes() -> None:
    """Make the series of metrics whose one label has few values, which all nodes know."""
    for metric, values in (
        (reconciled_total, RECONCILED),
        (endings_total, STATUSES),
        (runs_taken_back_total, TAKEN_BACK),
        (loop_lag_seconds, THREADS),
        (nodes_differing, DIFFERING),
        (webhook_deliveries_total, DELIVERED),
        (hints_total, HINTS),
        (pruned_total, PRUNED),
        (redis_faults_total, REDIS_ASKED),
        (sqs_messages_total, DISPATCHED),
        (sqs_faults_total, SQS_ASKED),
    ):
        for value in values:
            metric.labels(value)


def render() -> bytes:
    """Return all series in the text format of Prometheus, which is `CONTENT_TYPE`."""
    return generate_latest(REGISTRY)
