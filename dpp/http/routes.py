"""The table of the public API: method, path, handler, scope, types, problems.

It is the route inventory, makes the OpenAPI document, and is all that `dispatch` knows. Problems
that any route may answer (`ALWAYS`), that need a key (`KEYED`) or a body (`BODIED`) are added here,
so a row names only its own.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from attrs import field, frozen

from dpp.http import batches, budget, runs, service, submissions, transfers
from dpp.http.answers import Answer
from dpp.http.limits import READ, SUBMIT
from dpp.http.media import JSON, NDJSON
from dpp.http.problems import Problem
from dpp.http.requests import Parameters, Request, Whole
from dpp.http.services import Bounds, Services
from dpp.http.views import (
    BatchAnswer,
    BudgetView,
    HealthView,
    ReadyView,
    RunList,
    RunView,
    ServiceView,
    TransferList,
)
from dpp.http.wire import BatchRequest, SubmitRequest

Handler: TypeAlias = Callable[[Services, Request], Awaitable[Answer | Problem]]

ALWAYS: Final = (
    "malformed-http",
    "not-acceptable",
    "request-timeout",
    "uri-too-long",
    "expectation-failed",
    "headers-too-large",
    "internal-error",
    "temporary-reduced-capacity",
)
KEYED: Final = ("unauthorized", "forbidden", "quota-exceeded")
BODIED: Final = ("malformed-json", "payload-too-large", "unsupported-media-type")


@frozen
class Body:
    """What a route reads: its type, its media types, and which bound holds for its size."""

    type: type
    media_types: tuple[str, ...]
    bytes_max: Callable[[Bounds], int]


@frozen(kw_only=True)
class Route:
    """One row."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: Mapping[int, type | None]
    scope: str | None = None
    limit: str | None = None
    body: Body | None = None
    query: Parameters = field(factory=dict)
    own_problems: tuple[str, ...] = ()
    needs_key: bool = False  # the Idempotency-Key header

    @property
    def problems(self) -> tuple[str, ...]:
        """Return every problem that this route may answer."""
        keyed = KEYED if self.scope else ()
        bodied = BODIED if self.body else ()
        return (*ALWAYS, *keyed, *bodied, *self.own_problems)


_SUBMITTING: Final = (
    "invalid-request",
    "idempotency-key-missing",
    "idempotency-key-invalid",
    "idempotency-key-reused",
    "budget-exceeded",
    "max-cost-too-low",
    "max-cost-too-high",
    "pack-unknown",
    "pack-not-allowed",
    "tenant-suspended",
    "tenant-frozen",
)

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="POST",
        path="/v1/runs",
        handler=submissions.submit_run,
        summary="Submit a run: reserve its most, queue it",
        scope="runs:write",
        limit=SUBMIT,
        body=Body(SubmitRequest, (JSON,), lambda bounds: bounds.body_max_bytes),
        needs_key=True,
        answers={201: RunView},
        own_problems=_SUBMITTING,
    ),
    Route(
        method="POST",
        path="/v1/runs:batch",
        handler=batches.submit_batch,
        summary="Submit up to 1,000 runs, each answered for itself",
        scope="runs:write",
        limit=SUBMIT,
        body=Body(BatchRequest, (JSON, NDJSON), lambda bounds: bounds.batch_body_max_bytes),
        answers={200: BatchAnswer},
        own_problems=("invalid-request",),
    ),
    Route(
        method="GET",
        path="/v1/runs",
        handler=runs.list_runs,
        summary="List runs, newest first",
        scope="runs:read",
        limit=READ,
        query=runs.LIST_QUERY,
        answers={200: RunList},
        own_problems=("invalid-request",),
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}",
        handler=runs.get_run,
        summary="Look at a run, or wait until it has ended",
        scope="runs:read",
        limit=READ,
        query={"wait": Whole(0, 60, default=0)},
        answers={200: RunView, 304: None},
        own_problems=("invalid-request", "not-found"),
    ),
    Route(
        method="POST",
        path="/v1/runs/{run_id}:cancel",
        handler=runs.cancel_run,
        summary="Cancel a run; one that has ended stays as it is",
        scope="runs:write",
        answers={202: RunView, 200: RunView},
        own_problems=("not-found",),
    ),
    Route(
        method="GET",
        path="/v1/budget",
        handler=budget.get_budget,
        summary="The tenant's money",
        scope="budget:read",
        limit=READ,
        answers={200: BudgetView},
        own_problems=("invalid-request",),
    ),
    Route(
        method="GET",
        path="/v1/transfers",
        handler=transfers.list_transfers,
        summary="The tenant's ledger, newest first",
        scope="budget:read",
        limit=READ,
        query=transfers.QUERY,
        answers={200: TransferList},
        own_problems=("invalid-request",),
    ),
    Route(
        method="GET",
        path="/",
        handler=service.get_root,
        summary="What answers here",
        answers={200: ServiceView},
    ),
    Route(
        method="GET",
        path="/health",
        handler=service.get_health,
        summary="The process lives; asks nothing",
        answers={200: HealthView},
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=service.get_readyz,
        summary="Whether requests should come here",
        answers={200: ReadyView, 503: ReadyView},
    ),
)
