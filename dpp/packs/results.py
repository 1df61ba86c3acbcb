"""A pack's result as bytes: what is stored, hashed, served, and made again by a replay.

The form is the canonical JSON of `fingerprints`: members sorted by name, no white space, numbers
as Python prints them (the shortest text that reads back as the same number). The same value gives
the same bytes on every node. What JSON or PostgreSQL cannot carry is refused, as the pack's fault.
"""

import re

from dpp.fingerprints import canonical

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class NotAResult(ValueError):
    """The pack returned what is not JSON: NaN, an object of Python, a circle, U+0000."""


def encode(value: object) -> bytes:
    """Return the bytes of `value`, or raise `NotAResult` with the reason."""
    try:
        encoded = canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotAResult(f"the result is not JSON: {error}") from error
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise NotAResult("the result holds the character U+0000, which no text column can store")
    return encoded
