"""Committing a batch so that one bad item harms only itself.

A batch that raises anything but an outage was rolled back: it is a bug in our own decision, or a
row that the database refuses. It is asked again in halves, down to the item that is refused alone.

A broken store (schema, grants) refuses everything, and no item is to blame: it goes through. But
one broken page refuses one item, which must not stop the actors of every node in turn. So that is
asked in halves too: where others commit, it was the item. Where nobody else is there to tell, the
first few are taken for items, and then it is the store.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

import trio
from attrs import define, field

from dpp.faults import PageBroken, StoreBroken, StoreUnavailable
from dpp.logs import get_logger

Item = TypeVar("Item")
Ask: TypeAlias = Callable[[Sequence[Item]], Awaitable[None]]
Alone: TypeAlias = Callable[[Item, Exception], Awaitable[None]]

BROKEN_MAX = 3  # items refused alone while none was committed: it is the store

log = get_logger(__name__)


@define(eq=False)
class Refusals:
    """Broken pages that an actor met since it last committed; it outlives batches and crashes."""

    in_a_row: int = 0


async def commit(
    ask: Ask[Item], items: Sequence[Item], alone: Alone[Item], refusals: Refusals
) -> None:
    """Have all `items` committed by `ask`, which deals with a whole batch or raises.

    `alone` deals with an item that is refused by itself, given the bug. Outages go through: what
    was not dealt with by then is for the caller to give up. So does a broken store.
    """
    assert items
    halving = Halving(ask, alone)
    await halving.commit(items)
    if halving.done:
        refusals.in_a_row = 0
    for item, broken in halving.broken:
        if not halving.done:
            refusals.in_a_row += 1
            if refusals.in_a_row > BROKEN_MAX:
                raise broken
        await alone(item, broken)


@define(eq=False)
class Halving(Generic[Item]):
    """One batch on its way, in ever smaller parts."""

    ask: Ask[Item]
    alone: Alone[Item]
    done: int = 0
    broken: list[tuple[Item, PageBroken]] = field(factory=list)

    async def commit(self, items: Sequence[Item]) -> None:
        """Commit these, together or apart."""
        try:
            await self.ask(items)
        except PageBroken as error:
            bug: Exception = error
        except (StoreUnavailable, StoreBroken):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: see the top
            bug = error
        else:
            self.done += len(items)
            return
        if len(items) == 1:
            await self._alone(items[0], bug)
            return
        log.critical("batch refused", items=len(items), exc_info=bug)
        half = len(items) // 2
        await self.commit(items[:half])
        await self.commit(items[half:])

    async def _alone(self, item: Item, bug: Exception) -> None:
        await trio.lowlevel.checkpoint()
        if not isinstance(bug, PageBroken):
            await self.alone(item, bug)
            return
        self.broken.append((item, bug))
        if not self.done and len(self.broken) >= BROKEN_MAX:
            raise bug
