"""Examples of what goes in and out: values of the very types, written as answers are written.

One tenant's story: it buys runs of `echo`, tells webhooks of them and looks at its money.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, TypeAlias

import msgspec
from attrs import asdict, evolve

from dpp.http.problems import Problem, document, invalid
from dpp.http.views.batches import BatchAnswer, BatchRefusal, BatchRun
from dpp.http.views.books import BudgetView, TransferList, TransferView
from dpp.http.views.encoding import encode
from dpp.http.views.keys import KeyList, KeyView, MadeKeyView, RotatedKeyView
from dpp.http.views.packs import ExpectedView, LimitsView, PackList, PackView, PriceView, QuoteView
from dpp.http.views.receipts import ReceiptView, TransferNames
from dpp.http.views.runs import CostView, ErrorView, Links, ProgressView, RunList, RunView
from dpp.http.views.service import HealthView, ReadyView, ServiceView
from dpp.http.views.usage import UsageDayView, UsageTotals, UsageView
from dpp.http.views.webhooks import (
    DeliveryList,
    DeliveryView,
    WebhookList,
    WebhookSecretView,
    WebhookView,
)
from dpp.pricing import FeeRule, InputError, policy_text
from dpp.version import VERSION

Json: TypeAlias = Any
Named: TypeAlias = Mapping[str, Json]

RUN_ID: Final = "0190163d-8694-739b-aea5-966c26f8ad91"
OTHER_RUN_ID: Final = "0190163d-8ab0-7f5e-8c3f-2b1d6a7e9c04"
WEBHOOK_ID: Final = "01901640-1c2a-7d3e-9a4b-5c6d7e8f9a0b"
DELIVERY_ID: Final = "01901641-77f0-7a11-b0c2-d3e4f5061728"
KEY_ID, NEW_KEY_ID = "4nJb0Qz8VtXw", "9rTk2Lm5PqZd"
REQUEST_ID: Final = "6f1c2b7d9e0a4c55b8d3f2a1907e6c4d"
# Looks like a key and is none: its check is wrong, so scanners need not shout.
API_KEY: Final = f"dpp_live_{NEW_KEY_ID}_{'x' * 43}_000000"
SECRET: Final = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="  # noqa: S105 - 0 to 31
INPUTS: Final = {"message": "hello", "cost_usd": "0.05"}
POLICY: Final = policy_text(FeeRule().code)
CURSOR: Final = "MDE5MDE2M2QtODY5NC43ZDFhMGM0Mg"


def _at(second: int, day: int = 14) -> datetime:
    return datetime(2026, 6, day, 9, 30, second, tzinfo=UTC)


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────


def _links(run_id: str) -> Links:
    path = f"/v1/runs/{run_id}"
    return {
        "self": path,
        "cancel": f"{path}:cancel",
        "result": f"{path}/result",
        "events": f"{path}/events",
        "receipt": f"{path}/receipt",
    }


QUEUED: Final = RunView(
    run_id=RUN_ID,
    status="QUEUED",
    pack_type="echo",
    idempotency_key="order-4711",
    attempt=1,
    created_at=_at(0),
    started_at=None,
    finished_at=None,
    expires_at=_at(0, 21),
    result_expires_at=None,
    cost=CostView("0.10", "0.10", None, "0.005", "USD", POLICY),
    progress=None,
    metadata={"order": "4711"},
    result=None,
    result_sha256=None,
    error=None,
    trace_id="0af7651916cd43dd8448eb211c80319c",
    links=_links(RUN_ID),
)
PROCESSING: Final = evolve(
    QUEUED, status="PROCESSING", started_at=_at(1), progress=ProgressView(0.5, "half of it")
)
RESULT: Final = {"message": "hello"}
RESULT_SHA256: Final = "9b2d43affbf49a367028df2e1414f84c0e099ac98c3d54a8a80157fd7771af25"
COMPLETED: Final = evolve(
    QUEUED,
    status="COMPLETED",
    started_at=_at(1),
    finished_at=_at(2),
    result_expires_at=datetime(2026, 7, 14, 9, 30, 2, tzinfo=UTC),
    cost=CostView("0.10", "0.00", "0.05", "0.005", "USD", POLICY),
    progress=ProgressView(1.0, ""),
    result=RESULT,
    result_sha256=RESULT_SHA256,
)
FAILED: Final = evolve(
    QUEUED,
    status="FAILED",
    started_at=_at(1),
    finished_at=_at(2),
    cost=CostView("0.10", "0.00", "0.005", "0.005", "USD", POLICY),
    error=ErrorView("pack_refused", "the inputs ask this run to fail", "tenant"),
)
CANCELED: Final = evolve(
    QUEUED,
    status="CANCELED",
    finished_at=_at(2),
    cost=CostView("0.10", "0.00", "0.00", "0.005", "USD", POLICY),
)
REFUSED: Final = document(
    invalid([InputError("/inputs/sleep_s", "must be at least 0")]),
    instance="/v1/runs:batch",
    request_id=REQUEST_ID,
)
BATCH: Final = BatchAnswer([BatchRun(201, QUEUED, replayed=False), BatchRefusal(422, REFUSED)])
EVENTS: Final = """\
retry: 1000

event: status
id: 0.queued
data: {"status":"QUEUED","attempt":1}

event: status
id: 1.0
data: {"status":"PROCESSING","attempt":1}

event: charge
id: 1.1
data: {"amount_usd":"0.05","reason":"echo","charged_usd":"0.05","currency":"USD"}

event: status
id: 1.end
data: {"status":"COMPLETED","attempt":1,"cost":{"actual_usd":"0.05","currency":"USD"},\
"error":null}

"""

# ── money ────────────────────────────────────────────────────────────────────────────────────────

RECEIPT: Final = ReceiptView(
    receipt_version=1,
    run_id=RUN_ID,
    tenant_id="acme",
    pack_type="echo",
    pack_version="1.0.0",
    status="COMPLETED",
    attempt=1,
    inputs_sha256="f560fb9a894a2f49635b68fac313b8b5a2f07df4e99bf47b0de2af78d5e1f199",
    result_sha256=RESULT_SHA256,
    reserved_usd="0.10",
    cost_usd="0.05",
    returned_usd="0.05",
    policy=POLICY,
    transfer_ids=TransferNames("tr_2", "tr_3"),
    created_at=_at(0),
    settled_at=_at(2),
)
SETTLE: Final = TransferView(
    transfer_id="tr_3",
    seq=3,
    kind="settle",
    amount_usd="0.10",
    cost_usd="0.05",
    returned_usd="0.05",
    run_id=RUN_ID,
    reference=None,
    reason=None,
    created_at=_at(2),
)
RESERVE: Final = evolve(
    SETTLE,
    transfer_id="tr_2",
    seq=2,
    kind="reserve",
    cost_usd=None,
    returned_usd=None,
    created_at=_at(0),
)
DEPOSIT: Final = evolve(
    RESERVE,
    transfer_id="tr_1",
    seq=1,
    kind="deposit",
    amount_usd="10.00",
    run_id=None,
    reference="invoice-17",
    created_at=_at(0, 13),
)
CSV: Final = "".join(
    f"{line}\r\n"
    for line in (
        "transfer_id,seq,kind,amount_usd,cost_usd,returned_usd,run_id,reference,reason,created_at",
        f"tr_3,3,settle,0.10,0.05,0.05,{RUN_ID},,,2026-06-14T09:30:02Z",
        f"tr_2,2,reserve,0.10,,,{RUN_ID},,,2026-06-14T09:30:00Z",
        "tr_1,1,deposit,10.00,,,,invoice-17,,2026-06-13T09:30:00Z",
    )
)
QUOTE: Final = QuoteView(
    pack_type="echo",
    reserve_usd="0.10",
    expected_usd=ExpectedView("0.00", "0.10"),
    minimum_fee_usd="0.005",
    currency="USD",
    policy=POLICY,
    binding=False,
)
PACK: Final = PackView(
    pack_type="echo",
    version="1.0.0",
    input_schema={"type": "object", "properties": {"message": {}, "fail": {"type": "boolean"}}},
    output_schema={"type": "object", "properties": {"message": {}}, "required": ["message"]},
    price=PriceView("what cost_usd says, by default nothing", {}),
    limits=LimitsView(
        timebox_s=90, timebox_max_s=3600, result_max_bytes=67_108_864, max_cost_usd="10.00"
    ),
)
_COUNTS: Final = {
    "runs": 2,
    "completed": 1,
    "failed": 1,
    "cost_usd": "0.055",
    "reserved_usd": "0.20",
}
USAGE: Final = UsageView(
    first_day=date(2026, 6, 14),
    last_day=date(2026, 6, 14),
    items=[UsageDayView(day=date(2026, 6, 14), **_COUNTS)],  # type: ignore[arg-type]
    totals=UsageTotals(**_COUNTS),  # type: ignore[arg-type]
    currency="USD",
)

# ── keys and webhooks ────────────────────────────────────────────────────────────────────────────

KEY: Final = KeyView(
    key_id=KEY_ID,
    scopes=["runs:write", "runs:read"],
    created_at=_at(0, 13),
    created_by="operator",
    expires_at=None,
    last_used_at=_at(0),
    revoked=False,
    ended=False,
    spend_limit_usd="5.00",
    spent_usd="0.055",
)
MADE: Final = MadeKeyView(
    **asdict(
        evolve(KEY, key_id=NEW_KEY_ID, created_by=f"key:{KEY_ID}", last_used_at=None),
        recurse=False,
    ),
    api_key=API_KEY,
)
ROTATED: Final = RotatedKeyView(
    **asdict(evolve(MADE, created_by=f"rotation:{KEY_ID}"), recurse=False),
    replaces=evolve(KEY, expires_at=_at(0, 15)),
)
WEBHOOK: Final = WebhookView(
    webhook_id=WEBHOOK_ID,
    url="https://hooks.shop.example.com/dpp",
    events=["run.completed", "run.failed"],
    status="enabled",
    disabled_reason=None,
    created_at=_at(0, 13),
    previous_secret_until=None,
)
SECRETIVE: Final = WebhookSecretView(**asdict(WEBHOOK, recurse=False), secret=SECRET)
DELIVERY: Final = DeliveryView(
    delivery_id=DELIVERY_ID,
    event="run.completed",
    run_id=RUN_ID,
    attempts=1,
    status="pending",
    response_status=503,
    error="HTTP 503",
    created_at=_at(2),
    next_at=_at(7),
)

# ── what an answer looks like ────────────────────────────────────────────────────────────────────

_READY: Final = ReadyView("ready", {"api": "up", "database": "up"}, [], {})
_BY_TYPE: Final[Mapping[type, object]] = {
    RunView: COMPLETED,
    RunList: RunList([COMPLETED], CURSOR),
    BatchAnswer: BATCH,
    ReceiptView: RECEIPT,
    QuoteView: QUOTE,
    PackList: PackList([PACK]),
    BudgetView: BudgetView("10.00", "9.945", "0.00", "0.055", "USD"),
    TransferList: TransferList([SETTLE, RESERVE, DEPOSIT], None),
    UsageView: USAGE,
    KeyList: KeyList([KEY], None),
    MadeKeyView: MADE,
    RotatedKeyView: ROTATED,
    WebhookView: WEBHOOK,
    WebhookSecretView: SECRETIVE,
    WebhookList: WebhookList([WEBHOOK], None),
    DeliveryView: DELIVERY,
    DeliveryList: DeliveryList([DELIVERY], None),
    ServiceView: ServiceView("DPP API", VERSION, "running"),
    HealthView: HealthView("healthy", VERSION),
    ReadyView: _READY,
    object: RESULT,
    dict[str, Any]: {"openapi": "3.1.0"},
}
# Where one example of the type would not do.
_BY_ANSWER: Final[Mapping[tuple[str, int], Mapping[str, object]]] = {
    ("submit_run", 201): {"queued": QUEUED, "ended in time": COMPLETED},
    ("get_run", 200): {"working": PROCESSING, "completed": COMPLETED, "failed": FAILED},
    ("cancel_run", 202): {"working": PROCESSING},
    ("cancel_run", 200): {"canceled": CANCELED, "ended before": COMPLETED},
    ("get_readyz", 503): {
        "no database": evolve(
            _READY, status="not_ready", services={"api": "up", "database": "down"}
        ),
        "draining": evolve(_READY, status="not_ready", draining=True),
    },
}


def answered(operation: str, status: int, kind: type) -> Named:
    """Return examples of an answer in JSON, by name."""
    found = _BY_ANSWER.get((operation, status)) or {"example": _BY_TYPE[kind]}
    return {name: plain(view) for name, view in found.items()}


TEXTS: Final[Mapping[str, str]] = {"text/event-stream": EVENTS, "text/csv": CSV}
PART: Final = '{"mess'  # of a result, bytes 0 to 5

# ── what is sent ─────────────────────────────────────────────────────────────────────────────────

_SUBMISSION: Final = {"pack_type": "echo", "inputs": INPUTS, "max_cost_usd": "0.10"}
_BATCH: Final = [
    {**_SUBMISSION, "idempotency_key": "order-4711"},
    {**_SUBMISSION, "idempotency_key": "order-4712", "priority": 0},
]
_SENT: Final[Mapping[str, Named]] = {
    "submit_run": {
        "at once": {**_SUBMISSION, "metadata": {"order": "4711"}},
        "scheduled": {
            **_SUBMISSION,
            "run_at": "2030-01-31T09:30:00Z",
            "start_before": "2030-01-31T12:00:00Z",
        },
    },
    "submit_batch": {"two": {"runs": _BATCH}},
    "make_quote": {
        "with a most": _SUBMISSION,
        "left open": {"pack_type": "echo", "inputs": INPUTS},
    },
    "create_key": {
        "for a while": {
            "scopes": ["runs:write", "runs:read"],
            "expires_in_s": 2_592_000,
            "spend_limit_usd": "5.00",
        }
    },
    "rotate_key": {"a day beside it": {"overlap_s": 86_400}, "at once": {"overlap_s": 0}},
    "create_webhook": {
        "two events": {
            "url": "https://hooks.shop.example.com/dpp",
            "events": ["run.completed", "run.failed"],
        }
    },
    "change_webhook": {"off": {"status": "disabled"}, "on": {"status": "enabled"}},
}
LINES: Final = "".join(f"{msgspec.json.encode(line).decode()}\n" for line in _BATCH)


def sent(operation: str) -> Named:
    """Return examples of a request's JSON body, by name."""
    return _SENT[operation]


def plain(view: object) -> Json:
    """Return a view as a client decodes it."""
    return msgspec.json.decode(encode(view))


def refused(problem: Problem, instance: str) -> Json:
    """Return a problem as a client decodes it."""
    return document(problem, instance=instance, request_id=REQUEST_ID)
