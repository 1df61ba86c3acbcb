"""Committing a batch so that one bad item harms only itself.

A batch that raises anything but an outage was rolled back: it is a bug in our own decision, or a
row that the database refuses. It is asked again in halves, down to the item that is refused alone.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, TypeVar

from dpp.faults import StoreBroken, StoreUnavailable
from dpp.logs import get_logger

Item = TypeVar("Item")
Ask: TypeAlias = Callable[[Sequence[Item]], Awaitable[None]]
Alone: TypeAlias = Callable[[Item, Exception], Awaitable[None]]

log = get_logger(__name__)


async def commit(ask: Ask[Item], items: Sequence[Item], alone: Alone[Item]) -> None:
    """Have all `items` committed by `ask`, which deals with a whole batch or raises.

    `alone` deals with an item that is refused by itself, given the bug. Outages go through: what
    was not dealt with by then is for the caller to give up.
    """
    assert items
    try:
        await ask(items)
    except (StoreUnavailable, StoreBroken):
        raise
    except Exception as error:  # noqa: BLE001 - one of the three broad catches: see the top
        bug = error
    else:
        return
    if len(items) == 1:
        await alone(items[0], bug)
        return
    log.critical("batch refused", items=len(items), exc_info=bug)
    half = len(items) // 2
    await commit(ask, items[:half], alone)
    await commit(ask, items[half:], alone)
