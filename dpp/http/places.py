"""Places that are given up when somebody else needs them: the one held longest first."""

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class Yielding:
    """Those who give way, once they have been here for `kept_s`."""

    def __init__(self, kept_s: float = 0.0) -> None:
        self._kept_s = kept_s
        self._since: dict[trio.CancelScope, float] = {}  # in order
        self._draining = False

    @contextmanager
    def one(self) -> Iterator[None]:
        """Be one of them inside the block, which is cancelled when its place is needed."""
        with trio.CancelScope() as scope:
            self._since[scope] = trio.current_time()
            if self._draining:
                scope.cancel(reason="drain")
            try:
                yield
            finally:
                self._since.pop(scope, None)

    def make_room(self, most: int) -> bool:
        """Say whether there are fewer than `most`, or one of them just gave way."""
        return len(self._since) < most or self.let_one_go()

    def let_one_go(self) -> bool:
        """Let the longest go; False = there is none that gives way yet."""
        for scope, since in self._since.items():
            if trio.current_time() < since + self._kept_s:
                return False
            del self._since[scope]
            scope.cancel(reason="its place is needed")
            return True
        return False

    def drain(self) -> None:
        """Let all of them go, and whoever comes."""
        self._draining = True
        for scope in self._since:
            scope.cancel(reason="drain")
