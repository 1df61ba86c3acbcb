"""What comes in: the request bodies as attrs types, read strictly, all errors at once.

The same types make the OpenAPI document. Unknown members are refused, nothing is converted, every
error carries a JSON pointer and never repeats what was sent. `Submission` of the core is built from
these by `submissions`.
"""

import re
from typing import Annotated, Final, Literal, TypeVar

from attrs import frozen
from cattrs.errors import BaseValidationError
from msgspec import Meta

from dpp import moments, money
from dpp.egress import URL_MAX, origin
from dpp.keys import LIVES_MAX_S, OVERLAP_MAX_S, SCOPES
from dpp.packs.members import first_errors, member_errors
from dpp.packs.strict import Check, Wrong, make_converter
from dpp.pricing import InputError

Body = TypeVar("Body")

PAIRS_MAX, NAME_MAX, TEXT_MAX = 16, 64, 512  # of metadata: an order's names, not its contents
NOT_A_MEMBER: Final = "is not a member of this request"
# More than 0, at most 1,000,000.
MONEY_PATTERN: Final = r"^([1-9][0-9]{0,5}(\.[0-9]{1,6})?|0\.(?!0+$)[0-9]{1,6}|1000000(\.0{1,6})?)$"
KEY_PATTERN: Final = r"^[!#-+\--:<-\[\]-~]{1,255}$"
_KEY: Final = re.compile(rb'(?:"(?=.*"\Z))?([!#-+\--:<-\[\]-~]{1,255})"?')


def _positive(text: str) -> None:
    if money.parse(text) == 0:
        raise Wrong("must be more than 0")


def _moment(text: str) -> None:
    if moments.parse(text) is None:
        raise Wrong('must be a time with its offset, such as "2030-01-31T09:30:00Z"')


def _metadata(value: object) -> None:
    if type(value) is not dict or len(value) > PAIRS_MAX:
        raise Wrong(f"must be an object of at most {PAIRS_MAX} pairs")
    for name, text in value.items():
        if not 0 < len(name) <= NAME_MAX:
            raise Wrong(f"must have names of 1 to {NAME_MAX} characters")
        if type(text) is not str or len(text) > TEXT_MAX:
            raise Wrong(f"must have strings of at most {TEXT_MAX} characters as values")


def _web(text: str) -> None:
    if origin(text) is None:
        raise Wrong("must be an https URL")


def _object(value: object) -> None:
    if type(value) is not dict:
        raise Wrong("must be an object")


Money = Annotated[
    str,
    Check(_positive),
    Meta(
        description="US dollars as a decimal string, more than 0, at most 1000000.",
        extra_json_schema={"pattern": MONEY_PATTERN, "examples": ["1.00", "0.000125"]},
    ),
]
Inputs = Annotated[
    object,
    Check(_object),
    Meta(description="What the pack works on.", extra_json_schema={"type": "object"}),
]
PackType = Annotated[str, Meta(min_length=1, max_length=64, examples=["decision"])]
Timebox = Annotated[
    int, Meta(ge=1, description="Seconds that the run may execute; the node has a limit.")
]
Priority = Annotated[int, Meta(ge=0, le=9, description="0 first … 9 last.")]
KeyText = Annotated[
    str, Meta(extra_json_schema={"pattern": KEY_PATTERN, "minLength": 1, "maxLength": 255})
]


Moment = Annotated[
    str,
    Check(_moment),
    Meta(
        description="A time with its offset from UTC (RFC 3339).",
        extra_json_schema={"format": "date-time", "pattern": moments.PATTERN},
        examples=["2030-01-31T09:30:00Z"],
    ),
]
Metadata = Annotated[
    object,
    Check(_metadata),
    Meta(
        description="Yours, shown with the run; up to 16 pairs of strings.",
        extra_json_schema={
            "type": "object",
            "maxProperties": PAIRS_MAX,
            "propertyNames": {"minLength": 1, "maxLength": NAME_MAX},
            "additionalProperties": {"type": "string", "maxLength": TEXT_MAX},
        },
        examples=[{"order": "4711"}],
    ),
]
WebhookUrl = Annotated[
    str,
    Check(_web),
    Meta(
        max_length=URL_MAX,
        description="Where deliveries of this run go; its origin is that of a registered webhook.",
        extra_json_schema={"format": "uri", "pattern": "^https?://"},
        examples=["https://shop.example/dpp/order-4711"],
    ),
]


@frozen(kw_only=True)
class SubmitRequest:
    """A submission: what to run, on what, and the most it may cost."""

    pack_type: PackType
    inputs: Inputs
    max_cost_usd: Money
    timebox_s: Timebox | None = None
    priority: Priority = 5
    run_at: Moment | None = None
    start_before: Moment | None = None
    metadata: Metadata | None = None
    webhook_url: WebhookUrl | None = None


@frozen(kw_only=True)
class QuoteRequest(SubmitRequest):
    """A submission whose `max_cost_usd` may be left open: then the least that would be admitted."""

    max_cost_usd: Money | None = None  # type: ignore[assignment]  # described here, read as a submission


@frozen(kw_only=True)
class BatchSubmission(SubmitRequest):
    """A submission in a batch; the key stands in it, without quotes."""

    idempotency_key: KeyText


@frozen(kw_only=True)
class BatchRequest:
    """Up to 1,000 submissions, each answered for itself."""

    runs: Annotated[tuple[BatchSubmission, ...], Meta(min_length=1, max_length=1000)]


def _scopes(names: tuple[str, ...]) -> None:
    if not set(names) <= set(SCOPES):
        raise Wrong(f"must be some of {', '.join(SCOPES)}")
    if len(set(names)) < len(names):
        raise Wrong("must not repeat one")


Scopes = Annotated[
    tuple[str, ...],
    Check(_scopes),
    Meta(
        min_length=1,
        max_length=len(SCOPES),
        description="What a key may do: " + ", ".join(SCOPES) + ".",
        extra_json_schema={"uniqueItems": True},  # the items' own: see `openapi.schemas`
        examples=[["runs:read"]],
    ),
]
Lives = Annotated[int, Meta(ge=1, le=LIVES_MAX_S, description="Seconds that a key lives.")]
Overlap = Annotated[
    int, Meta(ge=0, le=OVERLAP_MAX_S, description="Seconds that the old key goes on; 0 ends it.")
]


@frozen(kw_only=True)
class NewKeyRequest:
    """A key: at most the scopes, the life and the money of the key that asks.

    Give `expires_at` or `expires_in_s`, or neither: then it ends with the key that asks. A key with
    a spend limit shares it with those that it makes; one without may set any.
    """

    scopes: Scopes
    expires_at: Moment | None = None
    expires_in_s: Lives | None = None
    spend_limit_usd: Money | None = None


@frozen(kw_only=True)
class RotateKeyRequest:
    """How long the old key goes on beside the new one."""

    overlap_s: Overlap = 86_400


WebhookTarget = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=URL_MAX,
        description="Where events go: https, a public host, a port that the operator allows.",
        extra_json_schema={"format": "uri"},
        examples=["https://hooks.shop.example.com/dpp"],
    ),
]
WebhookEvents = Annotated[
    tuple[Literal["run.completed", "run.failed", "run.canceled", "run.expired", "budget.low"], ...],
    Meta(
        min_length=1,
        max_length=5,
        description="What to tell, each once.",
        extra_json_schema={"uniqueItems": True},
        examples=[["run.completed", "run.failed"]],
    ),
]


@frozen(kw_only=True)
class NewWebhookRequest:
    """An endpoint that is told of these events."""

    url: WebhookTarget
    events: WebhookEvents


@frozen(kw_only=True)
class WebhookChangeRequest:
    """What changes of an endpoint; what is left out stays."""

    url: WebhookTarget | None = None
    events: WebhookEvents | None = None
    status: Literal["enabled", "disabled"] | None = None


REQUEST_TYPES: Final = (
    NewWebhookRequest,
    WebhookChangeRequest,
    NewKeyRequest,
    RotateKeyRequest,
    SubmitRequest,
    QuoteRequest,
    BatchSubmission,
    BatchRequest,
)


def read(body: object, kind: type[Body]) -> Body | list[InputError]:
    """Return the body as a `kind`, or what is wrong with it."""
    try:
        return _converter.structure(body, kind)
    except (BaseValidationError, Wrong) as error:
        return first_errors(member_errors(error, "", NOT_A_MEMBER), "")


def parse_key(lines: list[bytes]) -> str | None:
    """Return the key of exactly one `Idempotency-Key` header: a quoted string or the key bare."""
    found = _KEY.fullmatch(lines[0]) if len(lines) == 1 else None
    if found is None or (lines[0][:1] == b'"') != (lines[0][-1:] == b'"'):
        return None
    return found.group(1).decode("ascii")


def is_key(text: object) -> bool:
    """Say whether this is an idempotency key as a batch holds it."""
    return isinstance(text, str) and _BARE_KEY.fullmatch(text) is not None


_BARE_KEY: Final = re.compile(KEY_PATTERN[1:-1])
_converter: Final = make_converter()
