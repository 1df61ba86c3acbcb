"""A wake-up: a mailbox that holds one item, which is always the same.

Wake-ups coalesce, and losing one costs latency, never correctness: every wait has a poll behind it.
"""

from collections.abc import Callable

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
