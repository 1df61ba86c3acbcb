"""Cursors: where a list goes on. Opaque to clients, bound to the tenant and the list.

A cursor is a position, never a permission: the read behind it is bound to the tenant of the key.
The check only tells a cursor of ours from something else, so that a mistake is answered.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from zlib import crc32

CHARS_MAX: Final = 128


def make(kind: str, tenant_id: str, position: str) -> str:
    """Return the cursor after this position of a tenant's list."""
    text = f"{position}.{_check(kind, tenant_id, position)}"
    return urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def read(kind: str, tenant_id: str, cursor: str) -> str | None:
    """Return the position; None = not a cursor of this list and tenant."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = urlsafe_b64decode(padded).decode("ascii")
    except (binascii.Error, UnicodeError):
        return None
    position, _, check = text.rpartition(".")
    return position if position and check == _check(kind, tenant_id, position) else None


def _check(kind: str, tenant_id: str, position: str) -> str:
    return f"{crc32(f'{kind} {tenant_id} {position}'.encode()):08x}"
