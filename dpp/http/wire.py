"""What comes in: the request bodies as attrs types, read strictly, all errors at once.

The same types make the OpenAPI document. Unknown members are refused, nothing is converted, every
error carries a JSON pointer and never repeats what was sent. `Submission` of the core is built from
these by `submissions`.
"""

import re
from typing import Annotated, Final, TypeVar

from attrs import frozen
from cattrs.errors import BaseValidationError
from msgspec import Meta

from dpp import money
from dpp.packs.members import first_errors, member_errors
from dpp.packs.strict import Check, Wrong, make_converter
from dpp.pricing import InputError

Body = TypeVar("Body")

NOT_A_MEMBER: Final = "is not a member of this request"
MONEY_PATTERN: Final = r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?$"
KEY_PATTERN: Final = r"^[!#-+\--:<-\[\]-~]{1,255}$"
_KEY: Final = re.compile(rb'(?:"(?=.*"\Z))?([!#-+\--:<-\[\]-~]{1,255})"?')


def _positive(text: str) -> None:
    if money.parse(text) == 0:
        raise Wrong("must be more than 0")


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


@frozen(kw_only=True)
class SubmitRequest:
    """A submission: what to run, on what, and the most it may cost."""

    pack_type: PackType
    inputs: Inputs
    max_cost_usd: Money
    timebox_s: Timebox | None = None
    priority: Priority = 5


@frozen(kw_only=True)
class BatchSubmission(SubmitRequest):
    """A submission in a batch; the key stands in it, without quotes."""

    idempotency_key: KeyText


@frozen(kw_only=True)
class BatchRequest:
    """Up to 1,000 submissions, each answered for itself."""

    runs: Annotated[tuple[BatchSubmission, ...], Meta(min_length=1, max_length=1000)]


REQUEST_TYPES: Final = (SubmitRequest, BatchSubmission, BatchRequest)


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
