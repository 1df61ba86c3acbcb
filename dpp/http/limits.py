"""Limits that this node counts in memory, and how a limit is shown to a client.

What spends (submits, queued runs, money) is counted in the intake's transaction, exactly; here is
what only costs this node: reads of a tenant, failed keys of an address. A window starts with the
first thing counted in it. What is kept is bounded: under a flood of names the oldest is forgotten.
"""

from functools import lru_cache
from math import ceil
from typing import Any, Final

import http_sf
import trio

from dpp.admission import Window
from dpp.http.answers import Header, header
from dpp.plans import WINDOW_S

NAMES_MAX: Final = 10_000  # windows kept at a time, about 2 MB
SUBMIT: Final = "submit"
READ: Final = "read"


class Windows:
    """Counts by name, each over `WINDOW_S` from its first."""

    def __init__(self, names_max: int = NAMES_MAX) -> None:
        self._counts: dict[str, tuple[float, int]] = {}
        self._names_max = names_max

    def look(self, name: str, limit: int) -> Window:
        """Return the window as it is, counting nothing."""
        now = trio.current_time()
        ends_at, count = self._counts.get(name, (now + WINDOW_S, 0))
        if ends_at <= now:
            ends_at, count = now + WINDOW_S, 0
        return Window(limit, max(limit - count, 0), max(ceil(ends_at - now), 1))

    def count(self, name: str, *, ends_at: float | None = None, many: int = 1) -> None:
        """Count so many more; `ends_at`: when a window that begins with them ends."""
        now = trio.current_time()
        then, count = self._counts.get(name, (now, 0))
        if then <= now:
            self._counts.pop(name, None)  # to the end of the queue of those to be forgotten
            then, count = now + WINDOW_S if ends_at is None else ends_at, 0
        if name not in self._counts and len(self._counts) >= self._names_max:
            del self._counts[next(iter(self._counts))]
        self._counts[name] = (then, count + many)

    def take(self, name: str, limit: int) -> tuple[bool, Window]:
        """Count one more unless the limit is reached; say whether, and how the window is then."""
        if self.look(name, limit).remaining == 0:
            return False, self.look(name, limit)
        self.count(name)
        return True, self.look(name, limit)


def window_headers(policy: str, window: Window | None) -> tuple[Header, ...]:
    """Return `RateLimit-Policy` and `RateLimit` of an answer; nothing where there is no limit."""
    if window is None:
        return ()
    left = _item(policy, r=window.remaining, t=window.reset_s)
    return (_policy(policy, window.limit), header("ratelimit", left))


@lru_cache(maxsize=256)
def _policy(policy: str, limit: int) -> Header:
    return header("ratelimit-policy", _item(policy, q=limit, w=WINDOW_S))


def _item(name: str, **parameters: int) -> str:
    """Return a list of one string with parameters, by RFC 8941."""
    item: tuple[str, dict[str, Any]] = (name, dict(parameters))
    return http_sf.ser([item])
