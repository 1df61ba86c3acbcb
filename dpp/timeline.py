"""A timeline: the log lines of several nodes that belong to one trace, in order of time.

A line belongs to it that carries its trace id, or the id of a run that some line carries beside
that: what a reaper on another node does to the run knows the run and not the trace. Each node
stamps by its own clock, so lines of two nodes that are a moment apart may stand the wrong way
round; what the rows say is in the run itself. Pure: lines in, entries out.
"""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec
from attrs import frozen

Line: TypeAlias = Mapping[str, Any]


@frozen
class Entry:
    """One line, and the file that it stood in."""

    source: str
    line: Line

    @property
    def at(self) -> str:
        """Return when, in the one format of the logs, which sorts as it reads."""
        return str(self.line.get("timestamp", ""))


def parse(text: str) -> Line | None:
    """Read a line of JSON; None where it is none of a node's, such as systemd's own words."""
    start = text.find("{")  # journalctl's short format puts its own words before it
    if start < 0:
        return None
    try:
        line = msgspec.json.decode(text[start:])
    except msgspec.DecodeError:
        return None
    return line if isinstance(line, dict) and "event" in line else None


def runs_of(entries: Iterable[Entry], trace_id: str) -> frozenset[str]:
    """Return the runs that lines of this trace are about."""
    return frozenset(
        str(one.line["run_id"])
        for one in entries
        if one.line.get("trace_id") == trace_id and one.line.get("run_id")
    )


def of_trace(entries: Iterable[Entry], trace_id: str, run_ids: frozenset[str]) -> list[Entry]:
    """Return the lines that belong to a trace and its runs, earliest first."""
    ours = [
        one
        for one in entries
        if one.line.get("trace_id") == trace_id or one.line.get("run_id") in run_ids
    ]
    return sorted(ours, key=lambda one: one.at)
