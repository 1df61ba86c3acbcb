"""What a node counts, for `/metrics` on the management listener.

Every series is made here, with its help text and a bounded set of labels: no tenant, no run, no
path as the client wrote it. Whoever has something to count imports its metric; nothing reads a
figure back, least of all money. `declare` makes the labelled series that alerts read, so that they
stand at 0 from the start: an alert on a series that is not there yet never fires.
"""

from __future__ import annotations

import time
from functools import partial
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
RECONCILED = ("rolled_forward", "missing", "not_verified")
# Beside what the audit finds.
FOUND = ("write_refused", "object_astray", "object_not_asked", "object_not_verified")
# Of deliveries; dropped: never sent, since the endpoint is disabled or deleted by now.
DELIVERED = ("delivered", "retried", "failed", "gone", "dropped")
STATUSES = ("COMPLETED", "FAILED", "CANCELED", "EXPIRED")
OTHER = "other"  # the label of what a client made up
# A commit takes 1 to 5 ms; its limits are 2 s for a lock and 15 s for a transaction.
COMMIT_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15)
# The guide promises a p95 under 100 ms; ?wait= holds a request for up to 60 s.
REQUEST_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCH = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series that nobody reads
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
    "Time from the head of a request to the end of its answer.",
    ("route",),
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


def note_differing(counts: Mapping[str, int]) -> None:
    """Note how many nodes differ, by what."""
    for what, count in counts.items():
        nodes_differing.labels(what).set(count)


def observe_request(method: str, route: str | None, status: int, seconds: float) -> None:
    """Count one answered request. `route` is the template of the table, None where none matched."""
    verb, template = method if method in METHODS else OTHER, route or OTHER
    code = str(status) if 100 <= status <= 599 else OTHER  # noqa: PLR2004 - what HTTP knows
    http_requests_total.labels(verb, template, code).inc()
    http_request_duration_seconds.labels(template).observe(seconds)


def succeeded(loop: str) -> None:
    """Note that a loop has done its work now; its age is counted from here."""
    last_success_age_seconds.labels(loop).set_function(partial(_since, _now()))


def _since(moment: float) -> float:
    return _now() - moment


def _now() -> float:
    return time.monotonic()  # noqa: TID251 - an age to show: nothing waits for it


def declare(
    *,
    actors: Iterable[str] = (),
    loops: Iterable[str] = (),
    verbs: Iterable[str] = (),
    packs: Iterable[str] = (),
    invariants: Iterable[str] = (),
) -> None:
    """Make the series of these actors, loops, verbs, packs, invariants. Called once, at start."""
    for loop in loops:
        succeeded(loop)
    for actor in actors:
        actor_restarts_total.labels(actor)
        batch_size.labels(actor)
    for verb in verbs:
        for metric in (commits_unknown_total, store_unavailable_total, zombie_writes_refused_total):
            metric.labels(verb)
        commit_seconds.labels(verb)
    for pack in packs:
        for status in STATUSES:
            runs_ended_total.labels(status, pack)
    declare_outcomes()
    for invariant in (*invariants, *FOUND):
        findings_total.labels(invariant)
    # What an alert on errors divides by, before the first request.
    for code in ("200", "500", "503"):
        http_requests_total.labels("GET", OTHER, code)


def declare_outcomes() -> None:
    """Make the series of what may come of a reconciling, and of a delivery."""
    for outcome in RECONCILED:
        reconciled_total.labels(outcome)
    for outcome in DELIVERED:
        webhook_deliveries_total.labels(outcome)


def render() -> bytes:
    """Return all series in the text format of Prometheus, which is `CONTENT_TYPE`."""
    return generate_latest(REGISTRY)
