"""The headers that stand beside a body, in answers and in requests, and where each one does."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from dpp.http.openapi.examples import REQUEST_ID, RESULT_SHA256, RUN_ID
from dpp.http.routes import Route
from dpp.http.wire import KEY_PATTERN

Json: TypeAlias = dict[str, Any]

_MONEY: Final[Json] = {"type": "string", "pattern": r"^[0-9]+\.[0-9]{2,6}$"}
_TEXT: Final[Json] = {"type": "string"}
_KEY: Final = KEY_PATTERN[1:-1]


def _header(
    description: str, example: object, schema: Json = _TEXT, *, always: bool = True
) -> Json:
    return {"description": description, "required": always, "schema": schema, "example": example}


# What answers carry. `always`: wherever an operation names it.
ANSWERED: Final[Mapping[str, Json]] = {
    "X-Request-Id": _header(
        "Names this request in the node's log: your own X-Request-Id if that was 1 to 128 letters, "
        "digits or any of `._~-`, else a new one.",
        REQUEST_ID,
    ),
    "Location": _header("Where the run is, or its result.", f"/v1/runs/{RUN_ID}"),
    "Idempotency-Replayed": _header(
        "`true`: the key had named this run before; this is the run as it is now.",
        "true",
        {"const": "true"},
        always=False,
    ),
    "Preference-Applied": _header(
        "What of `Prefer` was honoured.", "respond-async, wait=30", always=False
    ),
    "X-DPP-Cost-Reserved": _header("Dollars reserved for the run: its most.", "0.10", _MONEY),
    "X-DPP-Cost-Minimum-Fee": _header(
        "Dollars that the run costs at least if it fails by itself.", "0.005", _MONEY
    ),
    "X-DPP-Cost-Actual": _header(
        "Dollars that the run did cost; absent until it has ended.", "0.05", _MONEY, always=False
    ),
    "RateLimit-Policy": _header(
        "The limit of your plan: `q` requests in `w` seconds. Absent where it has none.",
        '"submit";q=100;w=60',
        always=False,
    ),
    "RateLimit": _header(
        "What is left of it: `r` requests, anew in `t` seconds.", '"submit";r=87;t=12', always=False
    ),
    "ETag": _header("Names this state; send it as If-None-Match.", f'"{RESULT_SHA256}"'),
    "Repr-Digest": _header(
        "The SHA-256 of the whole result (RFC 9530), also beside a part of it.",
        f"sha-256=:{b64encode(bytes.fromhex(RESULT_SHA256)).decode()}:",
    ),
    "Accept-Ranges": _header("Parts may be asked for.", "bytes", {"const": "bytes"}),
    "Content-Range": _header(
        "Which bytes these are, and of how many; behind `*/` how many there are.", "bytes 0-5/19"
    ),
    "Content-Disposition": _header(
        "A name to save it under.", f'attachment; filename="{RUN_ID}.json"', always=False
    ),
    "Retry-After": _header(
        "Seconds until it is worth another try: exact for rates, else an estimate.",
        12,
        {"type": "integer", "minimum": 1},
    ),
    "WWW-Authenticate": _header("How to say who you are.", 'Bearer realm="dpp"'),
}

_COSTS: Final = ("X-DPP-Cost-Reserved", "X-DPP-Cost-Minimum-Fee", "X-DPP-Cost-Actual")
_RATE: Final = ("RateLimit-Policy", "RateLimit")
_MOVED: Final = 307
_PART: Final = ("ETag", "Repr-Digest", "Accept-Ranges", "Content-Disposition")
# By operation, beside those that every answer has, and those of the rate where there is one.
_OF_SUCCESS: Final[Mapping[str, tuple[str, ...]]] = {
    "submit_run": ("Location", "Idempotency-Replayed", "Preference-Applied", *_COSTS),
    "get_run": ("ETag", *_COSTS),
    "cancel_run": _COSTS,
    "get_result": _PART,
    "list_transfers": ("Content-Disposition",),
}
_OF_STATUS: Final[Mapping[int, tuple[str, ...]]] = {
    206: ("Content-Range",),
    401: ("WWW-Authenticate",),
    416: ("Content-Range", "Accept-Ranges"),
    429: ("Retry-After", *_RATE),
    503: ("Retry-After",),
}


def of_success(route: Route, status: int) -> Json:
    """Return the headers of an answer that is no problem."""
    if status == _MOVED:
        return _named(("X-Request-Id", "Location", "Repr-Digest", *(_RATE if route.limit else ())))
    own = _OF_SUCCESS.get(route.handler.__name__, ())
    rate = _RATE if route.limit else ()
    return _named(("X-Request-Id", *own, *(_OF_STATUS.get(status, ()) if own else ()), *rate))


def of_problem(status: int) -> Json:
    """Return the headers of a problem."""
    return _named(("X-Request-Id", *_OF_STATUS.get(status, ())))


def _named(names: tuple[str, ...]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _sent(name: str, description: str, example: object, schema: Json = _TEXT) -> Json:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": schema,
        "example": example,
    }


# What requests may carry. Those that no schema binds are ignored where they make no sense.
IDEMPOTENCY_KEY: Final[Json] = {
    **_sent(
        "Idempotency-Key",
        "Names this submission, once and for all: sent again with the same key it is the same run, "
        'charged once. 1 to 255 visible ASCII characters without `"`, `\\`, `,` and `;`; quotes '
        "around it do not count.",
        "order-4711",
        {"type": "string", "pattern": f'^(?:{_KEY}|"{_KEY}")$'},
    ),
    "required": True,
}
SHARED: Final[Mapping[str, Json]] = {
    "RequestId": _sent(
        "X-Request-Id", "Your own name for this request; it is echoed and logged.", REQUEST_ID
    ),
}
_IF_NONE_MATCH: Final = _sent(
    "If-None-Match", "An ETag that you have: 304 if it is still so.", f'"{RESULT_SHA256}"'
)
_OWN: Final[Mapping[str, tuple[Json, ...]]] = {
    "submit_run": (
        _sent(
            "Prefer",
            "`wait=N`: answer when the run has ended, at the latest after N seconds. "
            "`respond-async` is acknowledged and changes nothing.",
            "wait=30",
        ),
        _sent(
            "traceparent",
            "The trace that the run belongs to (W3C); else one starts here.",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ),
    "get_run": (_IF_NONE_MATCH,),
    "get_result": (
        _IF_NONE_MATCH,
        _sent("Range", "One range of bytes; others are ignored.", "bytes=0-5"),
        _sent(
            "If-Range", "An ETag: the range counts only if it still holds.", f'"{RESULT_SHA256}"'
        ),
    ),
    "stream_events": (
        _sent(
            "Last-Event-ID",
            "The last id that you saw; the stream goes on behind it.",
            "1.1",
            {"type": "string", "pattern": r"^$|^(0|[1-9][0-9]{0,18})\.([0-9]{1,10}|queued|end)$"},
        ),
    ),
}


def sent(route: Route) -> list[Json]:
    """Return the header parameters of an operation."""
    key = [IDEMPOTENCY_KEY] if route.needs_key else []
    shared = [{"$ref": f"#/components/parameters/{name}"} for name in SHARED]
    return [*key, *_OWN.get(route.handler.__name__, ()), *shared]
