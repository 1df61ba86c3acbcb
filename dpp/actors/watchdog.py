"""The watchdog: it tells systemd that the node is alive, while it has just seen that it is.

It looks at three things, none of which needs the database: whether the loop came back in time,
whether the bridge's thread answers, whether each loop took a turn lately. An outage is none of
them, so that it never feeds a storm of restarts. A node whose loop or bridge stands still is not
told to be alive, and systemd kills it. A single loop that hangs ends the node in order: its runs
are handed back free, which a kill would not do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio

from dpp.logs import get_logger

# Looks in the time that systemd waits. sd_watchdog_enabled(3) advises two; then one bad look, such
# as a pause of the whole machine, would be deadly.
LOOKS: Final = 4

log = get_logger(__name__)


class LoopHangs(Exception):  # what the node ends with, as after an actor that gave up
    """A loop of the node took no turn for far longer than it may."""


async def watchdog(
    knock: Callable[[], Awaitable[object]],
    quiet: Callable[[], Mapping[str, float]],
    patience: Mapping[str, float],
    alive: Callable[[float], None],
    give_up: Callable[[BaseException], None],
    *,
    period_s: float,
) -> None:
    """Look for as long as the node lives, and call `alive` with the time until the next limit.

    `knock` returns when the bridge answered; `quiet` tells seconds since each loop's last turn, of
    which `patience` has the most that each may take. `give_up` begins the drain, in which there is
    nothing quiet any more.
    """
    pause_s = period_s / LOOKS
    due_at = judges_from = trio.current_time()
    while True:
        lag_s = trio.current_time() - due_at
        if lag_s > pause_s:  # the other loops were late as well: they have a moment to come round
            log.warning("watchdog not fed", reason="the loop is late", late_s=round(lag_s, 1))
            judges_from = trio.current_time() + pause_s
        elif not await _answers(knock, pause_s):
            log.warning("watchdog not fed", reason="the bridge does not answer")
        else:
            hanging = overdue(quiet(), patience) if due_at >= judges_from else {}
            if hanging:
                words = ", ".join(f"{name} for {age_s:.0f} s" for name, age_s in hanging.items())
                log.critical("a loop hangs", loops=words)
                give_up(LoopHangs(words))
            alive(period_s)  # it ends in order, which takes its time
        due_at = max(due_at + pause_s, trio.current_time())
        await trio.sleep_until(due_at)


def overdue(quiet: Mapping[str, float], patience: Mapping[str, float]) -> dict[str, float]:
    """Return the loops that took no turn for longer than they may, and for how long."""
    return {name: quiet[name] for name, most in patience.items() if quiet.get(name, 0.0) > most}


async def _answers(knock: Callable[[], Awaitable[object]], limit_s: float) -> bool:
    with trio.move_on_after(limit_s) as waiting:
        await knock()
    return not waiting.cancelled_caught
