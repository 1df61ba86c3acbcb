"""Clients that connect all the time, each request on a connection of its own.

Only what a connection attempt says is counted as refused. A request that got a connection and no
answer is told apart: its client may send it again, since it has an idempotency key.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx
from attrs import define, field

from tests.systemd.machine import eventually, get

CLIENTS = 8


@define
class Hammer:
    """What became of the requests so far."""

    answered: int = 0
    refused: list[str] = field(factory=list)
    cut: list[str] = field(factory=list)
    ask: Callable[[], httpx.Response] = field(default=partial(get, "/health"), repr=False)
    over: threading.Event = field(factory=threading.Event, repr=False)
    _lock: threading.Lock = field(factory=threading.Lock, repr=False)

    def work(self) -> None:
        """Ask until told that it is over."""
        while not self.over.is_set():
            try:
                answer = self.ask()
            except httpx.ConnectError as error:
                self._note(self.refused, str(error))
            except httpx.TransportError as error:
                self._note(self.cut, repr(error))
            else:
                assert answer.is_success, answer.text
                with self._lock:
                    self.answered += 1

    def _note(self, where: list[str], what: str) -> None:
        with self._lock:
            where.append(what)

    def go_on(self, more: int) -> None:
        """Wait until so many more were answered."""
        aim = self.answered + more
        eventually(lambda: self.answered >= aim, f"{more} more answers", 60)


@contextmanager
def hammering(ask: Callable[[], httpx.Response] | None = None) -> Iterator[Hammer]:
    """Let clients hammer during the block, which begins once some were answered."""
    hammer = Hammer(ask=ask) if ask else Hammer()
    threads = [threading.Thread(target=hammer.work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        hammer.go_on(20)
        yield hammer
    finally:
        hammer.over.set()
        for thread in threads:
            thread.join()
