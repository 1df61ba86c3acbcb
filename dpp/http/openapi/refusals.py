"""The problems as the document tells them: the schema of each type, its meaning, an example."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from attrs import field, frozen

from dpp.http.openapi.examples import OTHER_RUN_ID, RUN_ID, Named, refused
from dpp.http.problems import TYPES, Problem
from dpp.http.views.encoding import SCHEMAS

Json: TypeAlias = dict[str, Any]

MEDIA: Final = "application/problem+json"
_MONEY: Final[Json] = {"type": "string", "description": "Dollars."}
_NAMES: Final[Json] = {"type": "array", "items": {"type": "string"}}
MEMBERS: Final[Mapping[str, Json]] = {
    "errors": {
        "type": "array",
        "minItems": 1,
        "description": "All that is wrong: where (a JSON pointer; /query and /headers, too), what.",
        "items": {
            "type": "object",
            "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
            "required": ["pointer", "message"],
        },
    },
    "allowed": {**_NAMES, "description": "The packs that the tenant may run."},
    "violated-policies": {**_NAMES, "description": "The limits that were hit."},
    "retry_after_s": {
        "type": "integer",
        "minimum": 1,
        "description": "Seconds until it may be sent again, as in Retry-After; an item of a batch "
        "has no other way to say so.",
    },
    "available_usd": _MONEY,
    "required_usd": _MONEY,
    "limit_usd": _MONEY,
    "limit": {"enum": ["day", "month", "key"], "description": "Whose cap it is."},
    "resets_at": {
        "type": ["string", "null"],
        "format": "date-time",
        "description": "When the cap counts anew; null: never.",
    },
    "run_id": {"type": "string"},
    "archived": {
        "type": "boolean",
        "description": "Whether it is kept in an archive, from which an operator can restore it.",
    },
    "cost_usd": _MONEY,
    "refunded_usd": _MONEY,
    "left_usd": _MONEY,
    "run_status": {"enum": ["QUEUED", "PROCESSING", "COMPLETED", "FAILED", "CANCELED", "EXPIRED"]},
    "keys_max": {"type": "integer"},
    "actual_usd": _MONEY,
    "webhooks_max": {"type": "integer"},
}


@frozen
class Told:
    """What a type means and what to do, and the detail and members of an example."""

    meaning: str
    detail: str
    members: Mapping[str, object] = field(factory=dict)


# Types that only the operators' API answers are described too: their URIs are as public.
_OPERATORS: Final = "Answered to operators only."
TOLD: Final[Mapping[str, Told]] = {
    "malformed-http": Told("Mend the request; the connection is closed.", "a header is folded"),
    "malformed-json": Told(
        "Mend the body: one JSON object in UTF-8, no name twice, no NaN, no "
        "integer beyond 2^53, at most 32 deep.",
        "the body ends too early",
    ),
    "idempotency-key-missing": Told(
        "Send one Idempotency-Key; in a batch, idempotency_key in each submission.",
        "send one Idempotency-Key header",
    ),
    "idempotency-key-invalid": Told(
        "Send one key of 1 to 255 visible ASCII characters.",
        'send one key of 1 to 255 visible ASCII characters, none of them " \\ , or ;',
    ),
    "unauthorized": Told(
        "The key is missing, wrong, revoked or expired: one answer for all of them.",
        "Send a valid key as Authorization: Bearer dpp_live_…",
    ),
    "budget-exceeded": Told(
        "Deposit money, let runs end, or reserve less. Nothing was reserved; the same key may be "
        "sent again.",
        "the run reserves $2.00, and $1.50 is available",
        {"available_usd": "1.50", "required_usd": "2.00"},
    ),
    "spend-limit-exceeded": Told(
        "A cap of the plan's day or month, or of the key, would be exceeded. Send it again after "
        "resets_at.",
        "with this run it would be more than the $5.00 that the plan allows to spend a day",
        {"limit": "day", "limit_usd": "5.00", "resets_at": "2026-06-15T00:00:00Z"},
    ),
    "forbidden": Told("Use a key with this scope.", "the key has no scope runs:write"),
    "pack-not-allowed": Told(
        "The plan does not include the pack.",
        "this tenant may run echo",
        {"allowed": ["echo"]},
    ),
    "tenant-suspended": Told(
        "An operator must resume the tenant.",
        "new submissions are refused until an operator resumes it; accepted runs go on",
    ),
    "tenant-frozen": Told(
        "An operator is looking at the books; send it again later.",
        "its books are being looked at; accepted runs go on",
    ),
    "not-found": Told(
        "There is nothing of this name, or it is another tenant's.", "there is no such run"
    ),
    "method-not-allowed": Told("Use a method that `Allow` names.", "allowed here: GET, HEAD"),
    "not-acceptable": Told(
        "Accept one of the media types that are offered.", "this answers application/json"
    ),
    "request-timeout": Told(
        "The request came too slowly; send it again.", "the head did not arrive within 10 s"
    ),
    "tenant-exists": Told(_OPERATORS, "there is a tenant 'acme' already"),
    "run-not-finished": Told(
        "Wait for the run's end, then ask again.",
        "the run is QUEUED; its result is here once it is COMPLETED",
        {"run_status": "QUEUED"},
    ),
    "run-ended": Told(
        _OPERATORS, "the run has ended", {"run_status": "COMPLETED", "actual_usd": "0.05"}
    ),
    "finding-resolved": Told(_OPERATORS, "the finding is resolved already"),
    "resolution-refused": Told(_OPERATORS, "the database refuses to resolve the finding"),
    "resolution-unfit": Told(_OPERATORS, "this does not mend the finding"),
    "result-expired": Told(
        "The result was kept until result_expires_at, or lies in an archive; the receipt stays.",
        "the result lies in an archive; an operator can restore it",
        {"archived": True},
    ),
    "run-expired": Told(
        "The run, or the run that the key named, is past retention. It was not bought again.",
        "the key named this run, which is past retention",
        {"run_id": OTHER_RUN_ID},
    ),
    "key-limit-reached": Told(
        "Revoke a key first.", "at most 100 keys that are good; revoke one first", {"keys_max": 100}
    ),
    "webhook-limit-reached": Told(
        "Delete a webhook first.",
        "a tenant may have 20; delete one that is not needed",
        {"webhooks_max": 20},
    ),
    "webhook-disabled": Told(
        "Enable it with PATCH first.", "enable it first: nothing is sent to it now"
    ),
    "payload-too-large": Told(
        "Send less; name large inputs by a URL.", "the body may have at most 1048576 bytes"
    ),
    "uri-too-long": Told("Send a shorter path or query.", "the target has more than 8192 bytes"),
    "unsupported-media-type": Told(
        "Send one Content-Type that is taken here, in UTF-8, not compressed.",
        "the Content-Type must be application/json",
    ),
    "range-not-satisfiable": Told(
        "Ask for bytes that exist; Content-Range says how many do.", "the result has 19 bytes"
    ),
    "expectation-failed": Told(
        "Send no Expect but 100-continue.", "the expectation '200-maybe' is not known"
    ),
    "invalid-request": Told(
        "Mend what `errors` names; all of it is named at once.",
        "/max_cost_usd must be more than 0",
        {"errors": [{"pointer": "/max_cost_usd", "message": "must be more than 0"}]},
    ),
    "idempotency-key-reused": Told(
        "The key names a run with another pack, inputs or options: use a key of its own.",
        "a run was submitted under this key with another pack, inputs or options",
    ),
    "reference-reused": Told(_OPERATORS, "the reference names another transfer"),
    "refund-too-high": Told(
        _OPERATORS,
        "the run cost $0.05",
        {"cost_usd": "0.05", "refunded_usd": "0.00", "left_usd": "0.05"},
    ),
    "max-cost-too-low": Told(
        "Reserve at least this: the pack's floor, or the minimum fee.",
        "this run needs at least $0.005",
        {"required_usd": "0.005"},
    ),
    "max-cost-too-high": Told(
        "The plan allows no more a run.",
        "the plan allows at most $10.00 a run",
        {"limit_usd": "10.00"},
    ),
    "pack-unknown": Told(
        "Use a pack that GET /v1/packs names.",
        "this tenant may run decision, echo",
        {"allowed": ["decision", "echo"]},
    ),
    "quota-exceeded": Told(
        "Wait for Retry-After seconds, then send the same again.",
        "100 submissions a minute; the next in 12 s",
        {"violated-policies": ["submit"], "retry_after_s": 12},
    ),
    "headers-too-large": Told("Send fewer headers.", "the head has more than 16384 bytes"),
    "internal-error": Told(
        "A fault of ours; ask the operator, with the request_id. A submission may be sent again "
        "with its key.",
        "it is logged under this request_id",
    ),
    "temporary-reduced-capacity": Told(
        "Nothing is known to have happened. Send the same again, with the same key, after "
        "Retry-After seconds.",
        "the database is away; ask the same again",
        {"retry_after_s": 1},
    ),
}


def schemas() -> Json:
    """Return the schema of each problem type, by its name."""
    return {schema_name(name): _schema(name) for name in TYPES}


def content(names: Iterable[str]) -> Json:
    """Return what a problem of one of these types, which share a status, looks like."""
    names = list(names)
    refs = [{"$ref": SCHEMAS + schema_name(name)} for name in names]
    schema = refs[0] if len(refs) == 1 else {"oneOf": refs}
    examples = {name: {"value": value} for name, value in examples_of(names).items()}
    return {MEDIA: {"schema": schema, "examples": examples}}


def examples_of(names: Iterable[str]) -> Named:
    """Return an example of each type, by name."""
    return {name: example(name) for name in names}


def example(name: str) -> Json:
    """Return an example of a type."""
    told = TOLD[name]
    problem: Json = refused(Problem(name, told.detail, told.members), f"/v1/runs/{RUN_ID}")
    return problem


def schema_name(problem: str) -> str:
    """Return the name of a problem's schema: `not-found` → `NotFoundProblem`."""
    return "".join(word.capitalize() for word in problem.split("-")) + "Problem"


def _schema(name: str) -> Json:
    kind = TYPES[name]
    own: Json = {
        "type": {"const": kind.base + name},
        "status": {"const": kind.status},
        "title": {"const": kind.title},
        **{member: MEMBERS[member] for member in kind.members},
    }
    told: Json = {"properties": own}
    if kind.members:
        told["required"] = list(kind.members)
    return {
        "title": schema_name(name),
        "description": TOLD[name].meaning,
        "allOf": [{"$ref": f"{SCHEMAS}ProblemView"}, told],
    }
