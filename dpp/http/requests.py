"""A request as handlers see it: typed, with its principal, and its body not read yet.

Handlers know neither ASGI nor Quart. What is wrong with a parameter comes back as a problem, all of
it at once; unknown parameters are refused like unknown members of a body.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Final, TypeAlias
from urllib.parse import parse_qsl

from attrs import field, frozen

from dpp import moments
from dpp.http.asgi import Receive
from dpp.http.auth import Principal
from dpp.http.problems import Problem, invalid
from dpp.pricing import InputError

PARAMETERS_MAX: Final = 32  # a query that names more is no mistake
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Headers: TypeAlias = Mapping[bytes, list[bytes]]


@frozen(kw_only=True)
class Request:
    """One request, past all checks of its head and its key."""

    method: str
    path: str
    params: Mapping[str, str]
    query: bytes
    headers: Headers
    principal: Principal | None
    address: str
    request_id: str
    trace_id: str
    receive: Receive = field(repr=False)

    @property
    def tenant_id(self) -> str:
        """Return who asks; only routes with a scope may say so."""
        assert self.principal is not None
        return self.principal.tenant_id


def gather(pairs: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """Return all values of each header, in order."""
    headers: dict[bytes, list[bytes]] = {}
    for name, value in pairs:
        headers.setdefault(name, []).append(value)
    return headers


async def read_body(request: Request, bytes_max: int) -> bytes | Problem:
    """Return the whole body; 413 as soon as it is longer than it may be."""
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            return Problem("malformed-http", "the connection ended before the body did")
        piece = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            return too_large(bytes_max)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def too_large(bytes_max: int) -> Problem:
    """Return the problem of a body over its limit."""
    return Problem("payload-too-large", f"the body may have at most {bytes_max} bytes")


@frozen
class Whole:
    """A parameter that is a whole number within bounds."""

    least: int
    most: int
    default: int

    def read(self, text: str) -> int | str:
        """Return the number, or what is wrong with the text."""
        digits = text.isascii() and text.isdigit() and len(text) <= len(str(self.most)) + 1
        if digits and self.least <= int(text) <= self.most:
            return int(text)
        return f"must be a whole number from {self.least} to {self.most}"


@frozen
class Words:
    """A parameter that is text up to a length; all of it must match the pattern."""

    chars_max: int
    pattern: str | None = None

    def fault(self, text: str) -> str | None:
        """Return what is wrong with the text; None = nothing."""
        if not 0 < len(text) <= self.chars_max:
            return f"must have 1 to {self.chars_max} characters"
        if "\0" in text:  # the database holds no such text
            return "must not hold U+0000"
        if self.pattern is not None and re.fullmatch(self.pattern, text) is None:
            return f"must match {self.pattern}"
        return None


@frozen
class Day:
    """A parameter that is a date, as ISO 8601 writes one: the day of a UTC calendar."""

    def read(self, text: str) -> date | str:
        """Return the day, or what is wrong with the text."""
        try:
            if _DAY.fullmatch(text):  # Python reads weeks and dates without hyphens, too
                return date.fromisoformat(text)
        except ValueError:  # month 13
            pass
        return "must be a date such as 2026-07-01"


@frozen
class Moment:
    """A parameter that is a time with its offset, as RFC 3339 writes one; it is read as UTC."""

    def read(self, text: str) -> datetime | str:
        """Return the time, or what is wrong with the text; a bare `+` was decoded to a blank."""
        found = moments.parse(text)
        return found or "must be a time such as 2026-07-01T12:00:00Z; write the + of an offset %2B"


Kind: TypeAlias = Whole | Words | Day | Moment
Parameters: TypeAlias = Mapping[str, Kind]
Values: TypeAlias = dict[str, int | str | date | None]  # a Moment's is a datetime


def read_query(request: Request, parameters: Parameters) -> Values | Problem:
    """Return every parameter's value or default, or the problem with the query."""
    return read_values(request.query, parameters)


def read_values(query: bytes, parameters: Parameters) -> Values | Problem:
    """Return what a query string says, or everything that is wrong with it."""
    values: Values = {
        name: kind.default if isinstance(kind, Whole) else None for name, kind in parameters.items()
    }
    if not query:
        return values
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=PARAMETERS_MAX,
        )
    except ValueError:  # not UTF-8, or too many
        return invalid([InputError("/query", "is not a query string")])
    errors: list[InputError] = []
    seen: set[str] = set()
    for name, text in pairs:
        wrong = _read(values, parameters, seen, name, text)
        if wrong is not None:
            errors.append(InputError(f"/query/{name[:64]}", wrong))
    return invalid(errors) if errors else values


def _read(
    values: Values, parameters: Parameters, seen: set[str], name: str, text: str
) -> str | None:
    """Put one parameter into `values`, or say what is wrong with it."""
    kind = parameters.get(name)
    if kind is None:
        return "is not a parameter of this endpoint"
    if name in seen:
        return "stands twice"
    seen.add(name)
    if isinstance(kind, Words):
        values[name] = text
        return kind.fault(text)
    value = kind.read(text)
    if isinstance(value, str):
        return value
    values[name] = value
    return None
