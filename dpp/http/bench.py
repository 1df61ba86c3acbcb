"""The bench: where work on large bodies and answers is done, one slice in a round of the scheduler.

The loop that answers requests also renews the lease and starts runs, so no request may keep it for
long, nor may a hundred of them that arrive together. Whoever has more to do than a moment's work
does it here, step by step: a slice of its steps, then the next in line has a slice.

Not threads: each time that the loop comes back from the kernel it would wait 5 ms for the thread
that computes, several times a request, and a C function keeps all threads waiting anyway. So what
matters is that each step is short.
"""

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import trio

T = TypeVar("T")
R = TypeVar("R")

SLICE_S: Final = 0.005  # of work, and one step over: what others wait for in a round
LIGHT_MAX: Final = 4096  # bytes whose work is a moment: under 1 ms, whatever is in them


class Bench:
    """One a node. Whoever is cancelled in the line, or between two slices, just goes."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        """`clock` tells how long steps take."""
        self._place = trio.Lock()  # first come, first served
        self._clock = clock
        self.thread = trio.CapacityLimiter(1)  # for what no step is short enough for

    async def each(self, work: Callable[[T], R], steps: Iterable[T]) -> list[R]:
        """Return what `work` makes of each step, in order."""
        done: list[R] = []
        left = iter(steps)
        while True:
            async with self._place:
                until = self._clock() + SLICE_S
                for step in left:
                    done.append(work(step))
                    if self._clock() >= until:
                        break
                else:
                    return done

    async def once(self, work: Callable[[], R]) -> R:
        """Return what one step of work gives."""
        async with self._place:
            return work()
