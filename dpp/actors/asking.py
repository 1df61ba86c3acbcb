"""Asking again: what must be answered, however long the store is away."""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from dpp.blobs import CouldNotAsk
from dpp.faults import StoreUnavailable
from dpp.logs import get_logger

T = TypeVar("T")

PAUSE_S_MIN = 0.05  # before the first time again; then twice as long
PAUSE_S_MAX = 1.0  # all of a node's executors ask again: jittered, so not at once

log = get_logger(__name__)


async def until_answered(what: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer; the caller's scope bounds it. Bugs go through."""
    pause_s = PAUSE_S_MIN
    while True:
        try:
            return await ask()
        except StoreUnavailable as outage:
            if isinstance(outage, CouldNotAsk):
                log.warning("result store unavailable", actor=what, detail=str(outage))
            else:
                log.warning("store unavailable", actor=what, detail=str(outage))
        await trio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, PAUSE_S_MAX)
