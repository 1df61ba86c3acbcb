"""A wake-up: a mailbox that holds one item, which is always the same.

Wake-ups coalesce, and losing one costs latency, never correctness: every wait has a poll behind it.
"""

from collections.abc import Awaitable, Callable

import trio


class Wake:
    """Rung by sync code, awaited by one actor."""

    def __init__(self) -> None:
        self._rung = False
        self._event: trio.Event | None = None

    def ring(self) -> None:
        """Wake the actor, now or at its next wait."""
        if not self._rung:
            self._rung = True
            if self._event is not None:
                self._event.set()

    async def wait(self, at_most_s: float) -> bool:
        """Wait until rung, at most this long; say whether it was. Waiting takes the ring away."""
        if not self._rung:
            self._event = trio.Event()
            try:
                with trio.move_on_after(at_most_s):
                    await self._event.wait()
            finally:
                self._event = None
        else:
            await trio.lowlevel.checkpoint()
        rung, self._rung = self._rung, False
        return rung


async def when(event: trio.Event, then: Callable[[], object]) -> None:
    """Call `then` once `event` is set: how an actor that sleeps hears of the drain."""
    await event.wait()
    then()


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when one of these does; the others are cancelled."""
    async with trio.open_nursery() as nursery:

        async def wait(one: Callable[[], Awaitable[object]]) -> None:
            await one()
            nursery.cancel_scope.cancel(reason="one came")

        for one in waits:
            nursery.start_soon(wait, one)
