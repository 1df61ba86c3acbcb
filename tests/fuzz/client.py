"""Clients that send cases, several at once, each case on a connection of its own.

Threads with blocking sockets: what limits is the node, and nothing here shares its loop.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from attrs import define, field, frozen

from tests.fuzz import answers
from tests.fuzz.cases import Case, Keys, Parting, case

ANSWER_S = 30.0  # longer than any wait of the server's for a peer, so nothing may take it
RESET = struct.pack("ii", 1, 0)


@frozen
class Failure:
    """A case that showed the server to be wrong, with all that repeats it."""

    seed: int
    number: int
    kind: str
    why: str
    sent: bytes
    came: bytes

    def told(self) -> str:
        """Return it for a person."""
        return (
            f"FAILED: {self.why}\n  repeat: --seed {self.seed} --only {self.number} ({self.kind})\n"
            f"  sent {len(self.sent)} bytes: {self.sent[:4000].hex()}\n  came: {self.came[:1500]!r}"
        )


@define
class Tally:
    """What was sent and what came, of one thread."""

    connections: int = 0
    requests: int = 0
    kinds: Counter[str] = field(factory=Counter)
    statuses: Counter[str] = field(factory=Counter)
    runs: set[str] = field(factory=set)  # acknowledged
    failures: list[Failure] = field(factory=list)

    def add(self, other: Tally) -> None:
        """Take in another's."""
        self.connections += other.connections
        self.requests += other.requests
        self.kinds += other.kinds
        self.statuses += other.statuses
        self.runs |= other.runs
        self.failures += other.failures


class Crew:
    """Threads that take numbers one after the other until there are enough requests."""

    def __init__(
        self, address: tuple[str, int], seed: int, keys: Keys, numbers: Iterable[int], threads: int
    ) -> None:
        self.tallies = [Tally() for _ in range(threads)]
        self._address = address
        self._seed = seed
        self._keys = keys
        self._numbers = iter(numbers)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(tally,)) for tally in self.tallies
        ]

    @property
    def requests(self) -> int:
        """Return how many were sent so far."""
        return sum(tally.requests for tally in self.tallies)

    @property
    def failures(self) -> int:
        return sum(len(tally.failures) for tally in self.tallies)

    def run(self, enough: Callable[[Crew], bool], look_s: float = 0.2) -> Tally:
        """Send until it is enough, or the numbers are used up; return the sums."""
        for thread in self._threads:
            thread.start()
        while any(thread.is_alive() for thread in self._threads):
            if enough(self):
                self._stopping.set()
            time.sleep(look_s)  # noqa: TID251 - no loop runs here
        total = Tally()
        for tally in self.tallies:
            total.add(tally)
        return total

    def _work(self, tally: Tally) -> None:
        while not self._stopping.is_set():
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            one = case(self._seed, number, self._keys)
            came = b""
            try:
                came = exchange(self._address, one)
                take(one, came, tally)
            except (answers.Wrong, OSError, ValueError, KeyError) as error:
                why = f"{type(error).__name__}: {error}"
                tally.failures.append(Failure(self._seed, number, one.kind, why, one.data, came))
            tally.connections += 1
            tally.requests += one.requests
            tally.kinds[one.kind] += one.requests


def exchange(address: tuple[str, int], one: Case) -> bytes:
    """Send a case on a connection of its own; return all that comes back.

    Raises TimeoutError where the server neither answers nor closes, OSError where nobody is there.
    """
    came = bytearray()
    with socket.create_connection(address, ANSWER_S) as sock:
        try:
            _send(sock, one.data, came)
            if one.parting is Parting.RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            if one.parting is not Parting.HALF_CLOSE:
                return b""
            sock.shutdown(socket.SHUT_WR)
            while piece := sock.recv(65536):
                came += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # refused, and closed before all was sent
    return bytes(came)


def _send(sock: socket.socket, data: bytes, came: bytearray) -> None:
    """Send all, and read what comes meanwhile: two that only write would wait for ever."""
    if len(data) < 16_384:
        sock.sendall(data)
        return
    view = memoryview(data)
    for at in range(0, len(data), 16_384):
        sock.sendall(view[at : at + 16_384])
        if select.select([sock], [], [], 0)[0]:
            came += sock.recv(65536)


def take(one: Case, came: bytes, tally: Tally) -> None:
    """Judge what came, and count it. Raises what `answers.read` raises."""
    if one.parting is not Parting.HALF_CLOSE:
        tally.statuses["not read"] += 1
        return
    if not came:
        tally.statuses["closed without a word"] += 1
    found = answers.read(came, heads_possible=b"HEAD" in one.data)
    for answer in found:
        tally.statuses[f"{answer.status} {answer.problem}".strip()] += 1
        if answer.status == 201 and b'"run_id"' in answer.body:
            tally.runs.add(json.loads(answer.body)["run_id"])
        elif answer.status == 200 and answer.body.startswith(b'{"items":[{"status":'):
            items = json.loads(answer.body)["items"]
            tally.runs |= {item["run"]["run_id"] for item in items if item["status"] == 201}


def numbers(only: int | None) -> Iterable[int]:
    """Return the numbers of the cases to send."""
    return itertools.count() if only is None else [only]
