"""Media types of requests and answers: what is taken, what can be given.

Checked from the head alone, before a byte of the body is read.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

from dpp.http.problems import Problem

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv"
_Q: Final = re.compile(r"q ?= ?(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_PROBLEM: Final = "application/problem+json"  # whoever takes that alone wants no success


def refuse_content(
    content_types: list[bytes], content_encodings: list[bytes], allowed: Collection[str]
) -> Problem | None:
    """Say what is wrong with the headers that describe a body; None = nothing.

    Compressed bodies are refused: a small one could unpack to any size.
    """
    if any(encoding.strip().lower() not in {b"", b"identity"} for encoding in content_encodings):
        return Problem("unsupported-media-type", "send the body without Content-Encoding")
    words = " or ".join(sorted(allowed))
    if len(content_types) != 1:
        return Problem("unsupported-media-type", f"send one Content-Type: {words}")
    media_type, *parameters = content_types[0].decode("latin-1").lower().split(";")
    if media_type.strip() not in allowed:
        return Problem("unsupported-media-type", f"the Content-Type must be {words}")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in {"utf-8", "utf8"}:
            return Problem("unsupported-media-type", "the charset must be utf-8")
    return None


def media_type(content_type: bytes) -> str:
    """Return the bare media type of a Content-Type that was not refused."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def refuse_accept(accepts: list[bytes], offered: Collection[str] = (JSON,)) -> Problem | None:
    """Say that the client takes nothing of what is offered; None = it does."""
    if not accepts:
        return None
    for choice in b",".join(accepts).decode("latin-1").lower().split(","):
        wanted, *parameters = (part.strip() for part in choice.split(";"))
        refused = any(part.replace(" ", "") in {"q=0", "q=0.0", "q=0.00"} for part in parameters)
        if not refused and (
            wanted in {"", _PROBLEM} or any(_takes(wanted, one) for one in offered)
        ):
            return None
    return Problem("not-acceptable", f"this answers {', '.join(sorted(offered))}")


def preferred(accepts: list[bytes], offered: Sequence[str]) -> str:
    """Return what the client likes most of what is offered; of several, what is offered first."""
    if not accepts:
        return offered[0]
    choices = b",".join(accepts).decode("latin-1").lower().split(",")
    return max(offered, key=lambda one: _quality(choices, one))  # max keeps the first of equals


def _quality(choices: Sequence[str], offered: str) -> float:
    """Return how much the client likes it: by the range that names it most exactly."""
    best = (-1, 0.0)
    for choice in choices:
        wanted, *parameters = (part.strip() for part in choice.split(";"))
        if _takes(wanted, offered):
            best = max(best, (2 - wanted.count("*"), _weight(parameters)))
    return best[1]


def _weight(parameters: Sequence[str]) -> float:
    """Return the `q` among a range's parameters; 1 where there is none that can be read."""
    for parameter in parameters:
        match = _Q.fullmatch(parameter)
        if match is not None:
            return float(match.group(1))
    return 1.0


def _takes(wanted: str, offered: str) -> bool:
    """Say whether a media range (RFC 9110, 12.5.1) takes a media type."""
    return wanted in {"*/*", offered, f"{offered.partition('/')[0]}/*"}
