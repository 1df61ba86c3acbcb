"""The trace of one simulation: a digest over all that happened, counters, the log of faults."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from typing import TYPE_CHECKING

import trio
from attrs import define, field

if TYPE_CHECKING:
    from hashlib import _Hash

TICK_S = 1e-9  # two moments are never the same one, though the clock stands still between them


@define(eq=False)
class Trace:
    """What is written down. `violations`: what broke a promise, in the order in which it showed."""

    counts: Counter[str] = field(factory=Counter)
    faults: list[str] = field(factory=list)
    violations: list[str] = field(factory=list)
    events: int = 0
    _digest: _Hash = field(factory=sha256)

    def add(self, *words: object) -> None:
        """Note that something happened now: virtual time goes into the digest with it."""
        self.events += 1
        text = " ".join(map(str, (repr(trio.current_time()), *words)))
        self._digest.update(text.encode() + b"\n")

    def now(self) -> float:
        """Return a moment later than every one before it, in virtual seconds."""
        self.events += 1
        return trio.current_time() + self.events * TICK_S

    def hit(self, fault: str, *words: object) -> None:
        """Note a fault; it is counted by its first word."""
        self.counts[f"fault: {fault}"] += 1
        line = " ".join(map(str, (fault, *words)))
        self.faults.append(f"{trio.current_time():9.3f} s  {line}")
        self.add("fault", line)

    def violated(self, promise: str, *offender: object) -> None:
        """Note a promise that was not kept."""
        self.violations.append(f"{trio.current_time():9.3f} s  {promise}: {offender}")

    def digest(self) -> str:
        """Return the digest so far, in hex."""
        return self._digest.hexdigest()
