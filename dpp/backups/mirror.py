"""Results copied as they are stored, so that what the received WAL points to is there as well.

A stored result never changes; its file appears whole under its name. A quick look goes through the
days on which runs of now were bought, a full one through all. Nothing is deleted here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import Factory, define

from dpp.files import UNFINISHED, make_dir

FULL_S: Final = 60.0  # between two looks at all days: an attempt of an old run, made again
STILL_NS: Final = 1_000_000_000  # a directory that changed later may change within the same tick
DAYS: Final = 2  # a run of before midnight ends after it


@define
class Mirror:
    """The results of one node, and where copies go. `since_s`: older ones are in every backup."""

    source: Path
    target: Path
    since_s: float
    copied: int = 0
    _seen: dict[Path, int] = Factory(dict)  # directories by the change that was looked through
    _runs: set[Path] = Factory(set)
    _full_at: float = 0.0

    def look(self, now_s: float) -> None:
        """Copy what is new; raises OSError where there is no room, and goes on the next time."""
        full = now_s >= self._full_at
        for day in self._days(None if full else datetime.fromtimestamp(now_s, UTC)):
            with suppress(FileNotFoundError):  # the node deletes what is past its retention
                self._day(day, full=full)
        if full:
            self._full_at = now_s + FULL_S

    def _days(self, today: datetime | None) -> Iterator[Path]:
        if today is None:
            yield from self.source.glob("*/*/*/*")
            return
        names = [f"{today - timedelta(days=back):%Y/%m/%d}" for back in range(DAYS)]
        for tenant in names_in(self.source):
            if tenant.is_dir():  # the store's id lies beside them
                yield from (tenant / name for name in names)

    def _day(self, day: Path, *, full: bool) -> None:
        changed_ns = day.stat().st_mtime_ns
        if not full and self._seen.get(day) == changed_ns:
            return
        whole = True
        for path in names_in(day):
            if full or path not in self._runs:
                found = files_of(path)
                for file in found:
                    self._file(file)
                whole = whole and bool(found)
                if found:
                    self._runs.add(path)
        newest_ns = datetime.now(UTC).timestamp() * 1e9 - STILL_NS  # noqa: TID251 - as files have it
        if whole and changed_ns < newest_ns:
            self._seen[day] = changed_ns

    def _file(self, file: Path) -> None:
        goal = self.target / file.relative_to(self.source)
        if goal.exists() or file.stat().st_mtime < self.since_s:
            return
        for above in reversed(goal.parents):
            if above.is_relative_to(self.target) and not above.exists():
                make_dir(above, mode=0o700)
        copy(file, goal)
        self.copied += 1


def names_in(directory: Path) -> list[Path]:
    """Return what is in a directory."""
    return [directory / name for name in os.listdir(directory)]  # noqa: PTH208 - twice as fast


def files_of(run: Path) -> list[Path]:
    """Return the objects of a run; a write that was cut short is none."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return [path for path in run.iterdir() if path.name.isdigit()]
    return []


def copy(file: Path, goal: Path) -> None:
    """Copy a file, whole and synced or not at all; it keeps the time it had."""
    descriptor, half = tempfile.mkstemp(prefix=UNFINISHED, dir=goal.parent)
    try:
        with os.fdopen(descriptor, "wb") as target, file.open("rb") as source:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(descriptor)
        shutil.copystat(file, half)
        Path(half).rename(goal)
    except BaseException:
        Path(half).unlink(missing_ok=True)
        raise
