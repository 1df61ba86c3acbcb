"""What a receiver writes beside the base backups: WAL and results, by the database they are of.

`received/SYSTEM/` holds `results/`, and a directory for each stretch of WAL that was received
without a gap: `00000002.1` is the first one of timeline 2. A server that no longer had the WAL
which is next began another stretch. SYSTEM is the number that initdb gave the database.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from dpp.backups.programs import BackupRefused
from dpp.backups.wal import (
    SEGMENT,
    Chain,
    Fork,
    Segment,
    Start,
    chain,
    forks,
    heirs,
    needless,
    position,
    segment,
    text_of,
)
from dpp.store.programs import ENVIRONMENT, wheel_programs

FOLDER, RESULTS = "received", "results"
COMMIT: Final = re.compile(r"desc: COMMIT (\S+ \S+) UTC")
# A clock may have been set: results that are older than a backup by less are kept beside it.
SLACK_S: Final = 3600.0


@frozen
class Reach:
    """How far what was received leads on from a base backup.

    `until` is when its last transaction ended, None = none did; `missing` the first segment that is
    not there, though later ones are.
    """

    timeline: int
    segments: int
    until: str | None
    missing: str | None


@frozen
class Received:
    """All that was received of one database."""

    path: Path

    @property
    def results(self) -> Path:
        """Return where results are that no base backup has yet."""
        return self.path / RESULTS

    def stretches(self, timeline: int | None = None) -> list[Path]:
        """Return the directories of WAL, of all timelines or of one, oldest first."""
        mark = "*" if timeline is None else f"{timeline:08X}"
        found = self.path.glob(f"{mark}.[0-9]*")
        return sorted(found, key=lambda path: (path.stem, int(path.suffix[1:])))

    def segments(self) -> dict[Segment, Path]:
        """Return where each segment lies; of two files of one name the later stretch's."""
        found = dict[Segment, Path]()
        for stretch in self.stretches():
            for path in stretch.iterdir():
                if (one := segment(path.name)) is not None:
                    found[one] = path
        return found

    def histories(self) -> dict[int, list[Fork]]:
        """Return the ancestors of each timeline that was received."""
        return {
            int(path.stem, 16): forks(path.read_text())
            for stretch in self.stretches()
            for path in stretch.glob("*.history")
        }

    def chain(self, start: Start, timeline: int | None = None) -> Chain:
        """Return the segments that lead on from a base backup."""
        known = self.histories()
        if timeline is not None and timeline not in (came := heirs(start, known)):
            raise BackupRefused(
                f"Timeline {timeline} did not come out of this backup; known: {sorted(came)}.",
                "Leave --timeline out for the newest, or name another backup.",
            )
        return chain(start, known, self.segments(), timeline)


def of(into: Path, start: Start) -> Received:
    """Return what was received beside a base backup, of the same database."""
    return Received(into / FOLDER / start.system)


def start_of(postgres: Path) -> Start:
    """Read from a base backup's manifest where it begins and ends."""
    try:
        manifest = json.loads((postgres / "backup_manifest").read_text())
        ranges = manifest["WAL-Ranges"]
        return Start(
            str(manifest["System-Identifier"]),
            ranges[-1]["Timeline"],
            min(position(one["Start-LSN"]) for one in ranges),
            position(ranges[-1]["End-LSN"]),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BackupRefused(
            f"The manifest in {postgres} cannot be read ({error}).",
            "Name another backup; while the node lives, take one.",
        ) from error


def verify(received: Received, start: Start) -> Reach | None:
    """Read all WAL that leads on from a base backup; None = none was received.

    Raises `BackupRefused` where a record does not match its checksum.
    """
    if not received.path.is_dir():
        return None
    way, files = received.chain(start), received.segments()
    whole = [one for one in way.segments if one.whole]
    if whole:
        _read(files, whole, start)
    ends = (_last_commit(files[one]) for one in reversed(way.segments))
    until = next((end for end in ends if end is not None), None)
    missing = None if way.missing is None else way.missing.name
    return Reach(way.timeline, len(way.segments), until, missing)


def prune(into: Path, kept: Collection[Start], oldest_s: float) -> None:
    """Delete what no kept base backup needs: WAL before the first, and results it has itself.

    `oldest_s` is when that one was begun, in seconds since 1970.
    """
    systems = {start.system for start in kept}
    for path in (into / FOLDER).glob("[0-9]*"):
        received = Received(path)
        if path.name not in systems:
            shutil.rmtree(path)
            continue
        of_it = [start for start in kept if start.system == path.name]
        files = received.segments()
        for one in needless(files, of_it):
            files[one].unlink(missing_ok=True)
        for stretch in received.stretches()[:-1]:
            if not any(segment(file.name) for file in stretch.iterdir()):
                shutil.rmtree(stretch)
        for file in received.results.rglob("*"):
            if file.is_file() and file.stat().st_mtime < oldest_s - SLACK_S:
                file.unlink(missing_ok=True)


def _read(files: Mapping[Segment, Path], whole: Collection[Segment], start: Start) -> None:
    """Let pg_waldump read each record of these segments and hold it against its checksum."""
    with tempfile.TemporaryDirectory(prefix="dpp-wal-") as place:
        for one in whole:
            Path(place, one.name).symlink_to(files[one].absolute())
        for timeline in sorted({one.timeline for one in whole}):
            numbers = [one.number for one in whole if one.timeline == timeline]
            first = max(numbers[0] * SEGMENT, start.end if timeline == start.timeline else 0)
            end = (numbers[-1] + 1) * SEGMENT
            if first < end:
                _dump(place, timeline, first, end)


def _dump(place: str, timeline: int, first: int, end: int) -> None:
    """Read one timeline's records from one position to another."""
    ended = _waldump(
        *("--quiet", f"--path={place}", f"--timeline={timeline}"),
        *(f"--start={text_of(first)}", f"--end={text_of(end)}"),
    )
    if ended.returncode:
        raise BackupRefused(
            f"The WAL from {text_of(first)} to {text_of(end)} is damaged: {ended.stderr.strip()}.",
            "Name another backup; this one restores alone (--alone), or to a time before that.",
        )


def _last_commit(path: Path) -> str | None:
    """Return when the last transaction in a segment ended; it is read as far as it is written."""
    with tempfile.TemporaryDirectory(prefix="dpp-wal-") as place:
        file = Path(place, path.stem)
        file.symlink_to(path.absolute())
        said = _waldump("--rmgr=Transaction", str(file)).stdout
    commits = COMMIT.findall(said)
    return f"{commits[-1].replace(' ', 'T')}Z" if commits else None


def _waldump(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [wheel_programs().bin / "pg_waldump", *arguments],
        check=False,
        env=ENVIRONMENT,
        cwd=os.sep,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
