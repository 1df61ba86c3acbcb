"""Fingerprints: what makes two requests under one idempotency key the same request.

SHA-256 over a version byte and the canonical JSON of what the client sent, without the key: order
of members and white space do not matter; defaults are not filled in; money is parsed, so "1.0" and
"1.00" are the same amount; inside the inputs `1` and `1.0` differ, and so do Unicode normal forms.
"""

import json
from collections.abc import Mapping
from hashlib import sha256

VERSION = b"\x01"  # an older version's digest is compared by its own rule
DIGEST_BYTES = 33  # the version byte and the SHA-256

_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def canonical(value: object) -> bytes:
    """Return the canonical JSON of a decoded value, as UTF-8."""
    return _encode(value).encode()


def fingerprint(submission: Mapping[str, object]) -> bytes:
    """Digest a decoded submission, without its key and with `max_cost_usd` in micros."""
    assert "idempotency_key" not in submission
    return VERSION + sha256(VERSION + canonical(submission)).digest()
