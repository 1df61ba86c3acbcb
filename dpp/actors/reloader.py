"""The reloader: SIGHUP rings, the configuration is read anew, and what may change live changes.

All of it at once, or nothing: what is wrong with a file, or does not go with what needs a restart,
is said, and the node goes on as it was. Each change is a line of the log.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from dpp.actors.wake import Wake
from dpp.config import Config, ConfigErrors
from dpp.live import Live
from dpp.logs import get_logger
from dpp.reload import Change, adopted, changes

ANEW_S = 3600.0  # of a wait that nothing but a ring ends

log = get_logger(__name__)


class Manager(Protocol):
    """Who is told that a reload goes on."""

    def reloading(self) -> None: ...

    def reloaded(self) -> None: ...


async def reloader(
    hangup: Wake,
    reread: Callable[[], Config],
    running: Live[Config],
    adopt: Callable[[Config], None],
    manager: Manager,
) -> None:
    """Reload whenever it is rung, for as long as the node lives."""
    while True:
        if not await hangup.wait(ANEW_S):
            continue
        manager.reloading()
        try:
            read = await trio.to_thread.run_sync(reread)
            differ, after = changes(running.now, read), adopted(running.now, read)
        except ConfigErrors as wrong:
            errors = [str(error) for error in wrong.errors]
            log.error("reload refused", errors=errors)  # noqa: TRY400 - it says all of it
        else:
            adopt(after)
            tell(differ)
        manager.reloaded()


def tell(differ: Sequence[Change]) -> None:
    """Say what changed, and what needs a restart."""
    for one in differ:
        told = {"key": one.key, "was": one.was, "now": one.now, "origin": one.origin}
        if one.live:
            log.info("setting changed", **told)
        else:
            log.warning("setting needs a restart", **told)
    live = sum(one.live for one in differ)
    log.info("configuration reloaded", changed=live, needs_restart=len(differ) - live)
