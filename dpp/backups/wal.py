"""Write-ahead log as files: names, timelines, and which of them lead on from a base backup. Pure.

A position (LSN) is a count of bytes; a segment is a file of 16 MiB, named by its timeline and its
number. A restored database begins a new timeline, whose history tells where it left its ancestors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from attrs import frozen

SEGMENT: Final = 16 << 20  # bytes; initdb's, which `cluster` leaves as it is
PER_LOG: Final = (1 << 32) // SEGMENT  # segments that share the middle part of the name
NAME: Final = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
FORK: Final = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)


@frozen
class Segment:
    """A file of WAL. One that is not whole ends in zeros, and is the last of what was received."""

    timeline: int
    number: int
    whole: bool = True

    @property
    def name(self) -> str:
        """Return what the server calls it."""
        high, low = divmod(self.number, PER_LOG)
        return f"{self.timeline:08X}{high:08X}{low:08X}"


@frozen
class Fork:
    """Where a timeline was left for the next one."""

    timeline: int
    at: int


@frozen
class Start:
    """From where on a base backup needs WAL: it is consistent at `end`, and replays `begin` on."""

    system: str
    timeline: int
    begin: int
    end: int


@frozen
class Chain:
    """The segments that lead on from a base backup, in order.

    `missing` is the first one that is not there though later ones are; the chain ends before it.
    """

    timeline: int
    segments: Sequence[Segment]
    missing: Segment | None


Histories = Mapping[int, Sequence[Fork]]


def position(text: str) -> int:
    """Return the bytes that `16/B374D848` counts."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def text_of(place: int) -> str:
    """Return a position as PostgreSQL writes it."""
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"


def segment(name: str) -> Segment | None:
    """Return what a file of this name holds; None = no WAL."""
    found = NAME.fullmatch(name)
    if found is None:
        return None
    timeline, high, low = (int(part, 16) for part in found.groups()[:3])
    return Segment(timeline, high * PER_LOG + low, whole=found[4] is None)


def forks(history: str) -> list[Fork]:
    """Read a timeline's history: its ancestors, the oldest first."""
    return [Fork(int(number), position(at)) for number, at in FORK.findall(history)]


def heirs(start: Start, histories: Histories) -> set[int]:
    """Return the timelines that came out of what the backup holds, its own among them."""
    return {start.timeline} | {
        timeline
        for timeline, left in histories.items()
        if any(fork.timeline == start.timeline and fork.at >= start.end for fork in left)
    }


def chain(
    start: Start, histories: Histories, there: Collection[Segment], timeline: int | None = None
) -> Chain:
    """Return what leads on from the backup, to the newest timeline that came out of it or to one.

    Of a segment that two timelines have, the newer one's counts: it begins with the other's.
    """
    timeline = timeline or max(heirs(start, histories))
    spans = [*histories.get(timeline, ()), Fork(timeline, _after(there))]
    path = {one for one in there if _on(one, spans)}
    last = max((one.number for one in path), default=-1)
    links = list[Segment]()
    for number in range(start.end // SEGMENT, last + 1):
        files = [one for one in path if one.number == number]
        best = max(files, key=_rank, default=Segment(timeline, number, whole=False))
        links += [best] if files else []
        if not best.whole:
            missing = not files or number < last
            return Chain(timeline, links, Segment(best.timeline, number) if missing else None)
    return Chain(timeline, links, None)


def needless(there: Collection[Segment], kept: Collection[Start]) -> set[Segment]:
    """Return the segments that no kept backup needs: those before the first that any begins with."""  # noqa: E501
    first = min((start.begin // SEGMENT for start in kept), default=None)
    return {one for one in there if first is None or one.number < first}


def _on(one: Segment, spans: Sequence[Fork]) -> bool:
    """Say whether a segment holds something of the way: on each timeline, from where it began."""
    began = 0
    for span in spans:
        if one.timeline == span.timeline:
            return began // SEGMENT <= one.number <= span.at // SEGMENT
        began = span.at
    return False


def _after(there: Collection[Segment]) -> int:
    return (max((one.number for one in there), default=0) + 1) * SEGMENT


def _rank(one: Segment) -> tuple[int, bool]:
    return one.timeline, one.whole
