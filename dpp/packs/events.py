"""What an attempt tells while it runs: charges and progress, in a small bounded outbox.

The pack fills it without waiting, the follower empties it every half second. Events are numbered
by the attempt, rising, with gaps where the bound was met. What always holds: the amounts of all
charge events of an attempt add up to what it charged. Money does not rest on events; the charged
total of `Ctx` is what settles.
"""

from typing import Literal

from attrs import define, evolve, field, frozen

from dpp.money import Micros

EVENTS_MAX = 64  # more than anyone can read between two rounds of the follower
TEXT_MAX = 200  # characters of a note or a reason: one line on a screen, one small row in a table


@frozen
class RunEvent:
    """One thing that happened in an attempt, as it goes into `run_events`."""

    n: int
    kind: Literal["charge", "progress"]
    amount: Micros | None = None
    reason: str | None = None
    fraction: float | None = None
    note: str | None = None


@define(eq=False)
class Outbox:
    """The events that nobody has taken yet, at most `EVENTS_MAX`."""

    _n: int = field(default=0, init=False)
    _waiting: list[RunEvent] = field(factory=list, init=False)

    def charge(self, amount: Micros, reason: str) -> None:
        """Add a charge. With no place left it is joined to the last one, so that the sum holds."""
        self._n += 1
        event = RunEvent(self._n, "charge", amount=amount, reason=reason)
        if not self._make_place():
            last = self._waiting.pop()
            assert last.amount is not None, "a full outbox without progress holds charges alone"
            event = evolve(event, amount=Micros(last.amount + amount))
        self._waiting.append(event)

    def progress(self, fraction: float, note: str) -> None:
        """Add progress. With no place left the oldest progress goes; among charges alone, this."""
        self._n += 1
        if self._make_place():
            self._waiting.append(RunEvent(self._n, "progress", fraction=fraction, note=note))

    def __len__(self) -> int:
        return len(self._waiting)

    def drain(self) -> list[RunEvent]:
        """Take all that waits, oldest first."""
        taken, self._waiting = self._waiting, []
        return taken

    def _make_place(self) -> bool:
        if len(self._waiting) < EVENTS_MAX:
            return True
        for i, event in enumerate(self._waiting):
            if event.kind == "progress":
                del self._waiting[i]
                return True
        return False


def one_line(text: str) -> str:
    """Return `text` as PostgreSQL can store and a log line can carry it, cut to `TEXT_MAX`."""
    cut = text[:TEXT_MAX].encode("utf-8", "replace").decode()  # lone surrogates become "?"
    return "".join(c if c.isprintable() else " " for c in cut)
