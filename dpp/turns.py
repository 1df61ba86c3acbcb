"""When each loop of the node last came round, for the watchdog.

A turn is not a success: a loop that found the database away, said so and tries again is alive, and
a node must not be restarted for it. One that hangs takes none. Nothing else reads this.
"""

from __future__ import annotations

import time

_turned_at: dict[str, float] = {}  # by loop


def turned(loop: str) -> None:
    """Note that a loop came round, or got on in a long pass, whatever came of it."""
    _turned_at[loop] = _now()


def resting(loop: str) -> None:
    """Note that a loop has nothing to do, for as long as somebody else likes: it is not watched."""
    _turned_at.pop(loop, None)


def quiet() -> dict[str, float]:
    """Return seconds since the last turn of each loop that is watched."""
    return {loop: _now() - moment for loop, moment in _turned_at.items()}


def _now() -> float:
    return time.monotonic()  # noqa: TID251 - an age: nothing sleeps by it
