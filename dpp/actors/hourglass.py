"""One timer for many waits of one length: a cancel scope for each costs 20 us, a place here none.

Waits that begin one after the other are due one after the other, so whoever is first in the queue
is due first.
"""

from collections import deque

import trio

from dpp.actors.mailbox import Waiter


class Hourglass:
    """Ends waits that took `wait_s`; what is waited for goes on. `run` is its actor."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._begun: deque[tuple[float, Waiter]] = deque()  # when each is due

    def __len__(self) -> int:
        return len(self._begun)

    def turn(self, waiter: Waiter) -> None:
        """Let the time of a wait begin; those before it that are over are forgotten."""
        begun = self._begun
        while begun and begun[0][1].left == 0:
            begun.popleft()
        begun.append((trio.current_time() + self._wait_s, waiter))

    async def run(self) -> None:
        """End what is due, for ever. What begins meanwhile is due after the one slept for."""
        while True:
            now = trio.current_time()
            while self._begun and self._begun[0][0] <= now:
                self._begun.popleft()[1].end()
            await trio.sleep_until(self._begun[0][0] if self._begun else now + self._wait_s)
