"""Where a trace starts: W3C `traceparent` of the client, else here.

Only the trace id goes on: it is stored with the run and stands on every log line of it.
"""

import random
import re
from collections.abc import Iterable
from typing import Final

_TRACEPARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


def trace_id(traceparents: Iterable[bytes]) -> str:
    """Return the client's trace id where it sent one valid `traceparent`, else a new one."""
    given = list(traceparents)
    found = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    if found is None or not _valid(found):
        return new_id()
    return found.group(2).decode("ascii")


def new_id() -> str:
    """Return 32 hex digits that nobody has had: a name, not a secret; the kernel is not asked."""
    return f"{random.getrandbits(128):032x}"


def _valid(found: re.Match[bytes]) -> bool:
    """Check what the grammar does not say: ff is no version, 00 has no tail, zeros name nothing."""
    version, trace, span, tail = found.groups()
    if version == b"ff" or (version == b"00" and tail is not None):
        return False
    return trace != _NO_TRACE and span != _NO_SPAN
