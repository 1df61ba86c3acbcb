"""The table of the public API: method, path, handler, scope, types, problems.

It is the route inventory, makes the OpenAPI document, and is all that `dispatch` knows. Problems
that any route may answer (`ALWAYS`), that need a key (`KEYED`) or a body (`BODIED`) are added here,
so a row names only its own.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from attrs import field, frozen

from dpp.http import (
    batches,
    budget,
    events,
    keys,
    packs,
    quotes,
    receipts,
    results,
    runs,
    service,
    submissions,
    transfers,
    usage,
    webhooks,
)
from dpp.http.answers import Answer, Streamed
from dpp.http.limits import READ, SUBMIT
from dpp.http.media import JSON, NDJSON
from dpp.http.problems import Problem
from dpp.http.requests import Parameters, Request, Whole
from dpp.http.services import Bounds, Services
from dpp.http.views.batches import BatchAnswer
from dpp.http.views.books import BudgetView, TransferList
from dpp.http.views.keys import KeyList, MadeKeyView, RotatedKeyView
from dpp.http.views.packs import PackList, QuoteView
from dpp.http.views.receipts import ReceiptView
from dpp.http.views.runs import RunList, RunView
from dpp.http.views.service import HealthView, ReadyView, ServiceView
from dpp.http.views.usage import UsageView
from dpp.http.views.webhooks import (
    DeliveryList,
    DeliveryView,
    WebhookList,
    WebhookSecretView,
    WebhookView,
)
from dpp.http.wire import (
    BatchRequest,
    NewKeyRequest,
    NewWebhookRequest,
    QuoteRequest,
    RotateKeyRequest,
    SubmitRequest,
    WebhookChangeRequest,
)

Handler: TypeAlias = Callable[[Services, Request], Awaitable[Answer | Streamed | Problem]]

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
    offers: tuple[str, ...] = (JSON,)  # media types of its success

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
    "spend-limit-exceeded",
    "run-expired",
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
        method="GET",
        path="/v1/runs/{run_id}/result",
        handler=results.get_result,
        summary="The result's bytes as they were stored. A run that ended without one: 404",
        scope="runs:read",
        limit=READ,
        answers={200: object, 206: object, 304: None, 307: None},
        own_problems=(
            "invalid-request",
            "not-found",
            "run-not-finished",
            "result-expired",
            "run-expired",
            "range-not-satisfiable",
        ),
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}/receipt",
        handler=receipts.get_receipt,
        summary="The settlement receipt of a run that has ended, however it did",
        scope="runs:read",
        limit=READ,
        answers={200: ReceiptView},
        own_problems=("invalid-request", "not-found", "run-not-finished", "run-expired"),
    ),
    Route(
        method="GET",
        path="/v1/runs/{run_id}/events",
        handler=events.stream_events,
        summary="Stream what happens to a run, from the beginning or behind Last-Event-ID",
        scope="runs:read",
        limit=READ,
        answers={200: str},
        own_problems=("invalid-request", "not-found"),
        offers=(events.EVENT_STREAM,),
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
        method="POST",
        path="/v1/quotes",
        handler=quotes.make_quote,
        summary="What a submission would reserve and may cost; reserves nothing",
        scope="runs:write",
        limit=READ,
        body=Body(QuoteRequest, (JSON,), lambda bounds: bounds.body_max_bytes),
        answers={200: QuoteView},
        own_problems=(
            "invalid-request",
            "max-cost-too-low",
            "max-cost-too-high",
            "pack-unknown",
            "pack-not-allowed",
        ),
    ),
    Route(
        method="GET",
        path="/v1/packs",
        handler=packs.list_packs,
        summary="The packs that this tenant may use",
        scope="runs:read",
        limit=READ,
        answers={200: PackList},
        own_problems=("invalid-request",),
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
        summary="The tenant's ledger, newest first: JSON in pages, CSV whole (no limit, no cursor)",
        scope="budget:read",
        limit=READ,
        query=transfers.QUERY,
        offers=transfers.OFFERS,
        answers={200: TransferList},
        own_problems=("invalid-request",),
    ),
    Route(
        method="GET",
        path="/v1/keys",
        handler=keys.list_keys,
        summary="List the tenant's API keys, newest first; those that have ended where asked for",
        scope="keys:write",
        limit=READ,
        query=keys.LIST_QUERY,
        answers={200: KeyList},
        own_problems=("invalid-request",),
    ),
    Route(
        method="POST",
        path="/v1/keys",
        handler=keys.create_key,
        summary="Make an API key: at most the scopes, life and money of the key that asks",
        scope="keys:write",
        body=Body(NewKeyRequest, (JSON,), lambda _bounds: keys.BODY_MAX),
        answers={201: MadeKeyView},
        own_problems=("invalid-request", "key-limit-reached"),
    ),
    Route(
        method="POST",
        path="/v1/keys/{key_id}:rotate",
        handler=keys.rotate_key,
        summary="Make a key in the place of another, which goes on for a while",
        scope="keys:write",
        body=Body(RotateKeyRequest, (JSON,), lambda _bounds: keys.BODY_MAX),
        answers={201: RotatedKeyView},
        own_problems=("invalid-request", "key-limit-reached", "not-found"),
    ),
    Route(
        method="DELETE",
        path="/v1/keys/{key_id}",
        handler=keys.revoke_key,
        summary="Revoke a key; it is refused everywhere within five seconds",
        scope="keys:write",
        answers={204: None},
        own_problems=("not-found",),
    ),
    Route(
        method="GET",
        path="/v1/usage",
        handler=usage.get_usage,
        summary="Usage by the UTC day on which runs ended, every day of at most 366, oldest first; "
        "without `to` up to today, without `from` 30 days",
        scope="budget:read",
        limit=READ,
        query=usage.QUERY,
        answers={200: UsageView},
        own_problems=("invalid-request",),
    ),
    Route(
        method="POST",
        path="/v1/webhooks",
        handler=webhooks.create_webhook,
        summary="Register an endpoint; its secret is in this answer alone",
        scope="webhooks:write",
        body=Body(NewWebhookRequest, (JSON,), lambda _bounds: webhooks.BODY_MAX),
        answers={201: WebhookSecretView},
        own_problems=("invalid-request", "webhook-limit-reached"),
    ),
    Route(
        method="GET",
        path="/v1/webhooks",
        handler=webhooks.list_webhooks,
        summary="List the tenant's endpoints, newest first",
        scope="webhooks:write",
        limit=READ,
        query=webhooks.LIST_QUERY,
        answers={200: WebhookList},
        own_problems=("invalid-request",),
    ),
    Route(
        method="GET",
        path="/v1/webhooks/{webhook_id}",
        handler=webhooks.get_webhook,
        summary="Look at an endpoint",
        scope="webhooks:write",
        limit=READ,
        answers={200: WebhookView},
        own_problems=("not-found",),
    ),
    Route(
        method="PATCH",
        path="/v1/webhooks/{webhook_id}",
        handler=webhooks.change_webhook,
        summary="Change an endpoint's URL or events, disable it or enable it again",
        scope="webhooks:write",
        body=Body(WebhookChangeRequest, (JSON,), lambda _bounds: webhooks.BODY_MAX),
        answers={200: WebhookView},
        own_problems=("invalid-request", "not-found"),
    ),
    Route(
        method="DELETE",
        path="/v1/webhooks/{webhook_id}",
        handler=webhooks.delete_webhook,
        summary="Delete an endpoint; what waits for it is not sent",
        scope="webhooks:write",
        answers={204: None},
        own_problems=("not-found",),
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{webhook_id}:rotate",
        handler=webhooks.rotate_webhook,
        summary="Make a new secret; the one before it signs too, for a day",
        scope="webhooks:write",
        answers={200: WebhookSecretView},
        own_problems=("not-found",),
    ),
    Route(
        method="GET",
        path="/v1/webhooks/{webhook_id}/deliveries",
        handler=webhooks.list_deliveries,
        summary="List what was sent to an endpoint, or waits for it, newest first",
        scope="webhooks:write",
        limit=READ,
        query=webhooks.LIST_QUERY,
        answers={200: DeliveryList},
        own_problems=("invalid-request", "not-found"),
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{webhook_id}/deliveries/{delivery_id}:replay",
        handler=webhooks.replay_delivery,
        summary="Send a delivery once more, as if for the first time",
        scope="webhooks:write",
        answers={202: DeliveryView},
        own_problems=("not-found", "webhook-disabled"),
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
