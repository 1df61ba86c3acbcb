"""`dpp logs`: what nodes have written, read beside each other."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from dpp.cli.command import Command, Group, with_session
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session
from dpp.timeline import Entry, of_trace, parse, runs_of

SHOWN_FIRST = ("timestamp", "level", "event", "logger", "severity", "trace_id")
STDIN = "-"
ASKED = "Name the trace and then the logs: dpp logs trace TRACE_ID FILE…"


@click.group("logs", cls=Group)
def logs() -> None:
    """Read the JSON logs of several nodes."""


@logs.command("trace", cls=Command)
@click.argument("trace_id")
@click.argument("files", nargs=-1, metavar="[FILE]…")
@with_session
def trace(session: Session, trace_id: str, files: tuple[str, ...]) -> int:
    """Show what every node wrote of one trace and its runs, as one timeline.

    FILE is a node's log, plain or .gz; "-", or none, is what stands on stdin, such as
    journalctl's. Status 1 where no line is of that trace.
    """
    if Path(trace_id).is_file() or (not files and sys.stdin.isatty()):
        asks = f"{trace_id} is a file" if Path(trace_id).is_file() else "no FILE is named"
        raise Stop(Exit.USAGE, Trouble("nothing_to_read", asks, todo=ASKED))
    entries = [entry for file in files or (STDIN,) for entry in read(file)]
    found = of_trace(entries, trace_id, runs_of(entries, trace_id))
    session.out.result({"lines": [{"source": one.source, **one.line} for one in found]})
    rows = [
        (one.at, one.source, str(one.line.get("level", "")), str(one.line["event"]), rest(one))
        for one in found
    ]
    session.out.table(("time", "log", "level", "event", "more"), rows)
    return Exit.GOOD if found else Exit.NEGATIVE


def read(file: str) -> Iterator[Entry]:
    """Yield the lines of a log that are a node's; ends the command where it cannot be read."""
    try:
        with opened(file) as lines:
            for text in lines:
                line = parse(text)
                if line is not None:
                    yield Entry("stdin" if file == STDIN else file, line)
    except (OSError, EOFError) as error:
        raise Stop(Exit.USAGE, Trouble("unreadable", f"{file} cannot be read: {error}")) from error


def opened(file: str) -> TextIO:
    """Open a log; a byte that is no text stands for itself."""
    if file == STDIN:
        return io.TextIOWrapper(sys.stdin.buffer, errors="backslashreplace")
    if file.endswith(".gz"):
        return gzip.open(file, "rt", errors="backslashreplace")
    return Path(file).open(errors="backslashreplace")


def rest(entry: Entry) -> str:
    """Return what else the line says, shortly."""
    more = {name: value for name, value in entry.line.items() if name not in SHOWN_FIRST}
    return " ".join(f"{name}={_short(value)}" for name, value in more.items())


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.splitlines()[-1] if text else ""
