"""An answer on its way to a client: status, headers, body. And what every answer carries.

Names of headers are lower-case bytes, as ASGI has them.
"""

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final, TypeAlias

from attrs import field, frozen

from dpp.http.tracing import new_id

Header: TypeAlias = tuple[bytes, bytes]

JSON: Final = b"application/json"
PROBLEM_JSON: Final = b"application/problem+json"

# An API's answers are data: never a page, never framed, never guessed at.
SECURITY: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
NO_STORE: Final[Header] = (b"cache-control", b"no-store")

_SAFE_ID: Final = re.compile(rb"[A-Za-z0-9._~-]{1,128}")


@frozen
class Answer:
    """A whole answer: what a handler returns."""

    status: int
    body: bytes = b""
    headers: Sequence[Header] = field(default=())
    media_type: bytes = JSON


@frozen
class Streamed:
    """An answer whose body comes piece by piece, its end unknown: an event stream, a long file.

    `pieces` is closed with the answer, whether it ended or its client went away. What it raises
    cuts the connection: half an answer is never taken for a whole one.
    """

    status: int
    pieces: AsyncGenerator[bytes, None] = field(eq=False)
    headers: Sequence[Header] = field(default=())
    media_type: bytes = JSON


def header(name: str, value: str) -> Header:
    """Return a header from text; the value must be ASCII."""
    return name.encode("ascii"), value.encode("ascii")


def request_id(given: Iterable[bytes]) -> str:
    """Return the client's own request id where it sent one safe one, else a new one."""
    ids = list(given)
    if len(ids) == 1 and _SAFE_ID.fullmatch(ids[0]):
        return ids[0].decode("ascii")
    return new_id()
