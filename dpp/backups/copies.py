"""Base backups of a node's data directory: taken while it runs, kept, and verified.

A backup is a directory: `postgres/`, made by pg_basebackup with a manifest of SHA-256 hashes and
the WAL that makes it whole; `blobs/`, the stored results, with `blobs.sha256`; and `backup.json`,
written last. Results are copied after the database: one is stored before its run is settled, so
all that the copied rows point to is there. What runs on the database goes on meanwhile. Money is
safe in it as at a crash: a restored node begins where the database stood at the backup's end.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from dpp import datadir
from dpp.accounts import by_uid
from dpp.backups import received
from dpp.backups.programs import BackupRefused, run
from dpp.files import UNFINISHED, sync_dir, write_file
from dpp.store.cluster import socket_directory
from dpp.store.programs import wheel_programs
from dpp.version import VERSION

ABOUT, POSTGRES, BLOBS, HASHES = "backup.json", "postgres", "blobs", "blobs.sha256"
NAME: Final = "%Y%m%dT%H%M%SZ"
KEEP: Final = 7  # backups, as the guide has it: a week of daily ones
SLICE: Final = 1 << 20

Say = Callable[[str], None]


@frozen
class About:
    """What a backup says of itself."""

    dpp: str
    postgres: str
    taken_at: str
    results: int
    ended_at: str = ""  # from when on the database in it is whole; "" = it does not say


def take(data_dir: Path, into: Path, *, say: Say = lambda _: None) -> Path:
    """Take a backup of the running node into a new directory; returns its path."""
    if datadir.running(data_dir) is None:
        raise BackupRefused(
            f"No node runs on {data_dir}.",
            "Start it. A directory may be copied only where no postgres runs on it any more: one"
            " outlives a node that was killed.",
            away=True,
        )
    refuse_inside(data_dir, into)
    taken_at = datetime.now(UTC)  # noqa: TID251 - a name for people
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = into / f"{UNFINISHED}{taken_at:{NAME}}"
    half.mkdir(mode=0o700)
    try:
        say("database")
        copy_database(data_dir, half / POSTGRES)
        ended_at = datetime.now(UTC)  # noqa: TID251 - as the server on this machine writes commits
        say("results")
        hashes = copy_results(data_dir / datadir.BLOBS, half / BLOBS)
        write_file(half / HASHES, "".join(f"{one}  {name}\n" for name, one in hashes.items()))
        results = sum("/" in name for name in hashes)  # the store's own id lies at its root
        times = (taken_at.isoformat(), results, ended_at.isoformat())
        about = About(VERSION, wheel_programs().version, *times)
        write_file(half / ABOUT, json.dumps(asdict(about), indent=2) + "\n")
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    done = into / f"{taken_at:{NAME}}"
    half.rename(done)
    sync_dir(into)
    return done


def refuse_inside(data_dir: Path, into: Path) -> None:
    """Refuse to copy a directory into itself."""
    if data_dir.resolve() in (into.resolve(), *into.resolve().parents):
        raise BackupRefused(
            f"{into} lies in the data directory.", "Name a place on another disk, or another host."
        )


def keep(into: Path, most: int) -> None:
    """Delete all but the newest backups, what a crash left half made, and the WAL before them."""
    assert most > 0
    for old in (*whole(into)[:-most], *into.glob(f"{UNFINISHED}*")):
        shutil.rmtree(old)
    kept = whole(into)
    starts = [received.start_of(one / POSTGRES) for one in kept]
    received.prune(into, starts, min(taken_s(read_about(one)) for one in kept))


def whole(into: Path) -> list[Path]:
    """Return the backups in a directory, oldest first; what is half made is none."""
    return sorted(path.parent for path in into.glob(f"[0-9]*Z/{ABOUT}"))


def copy_database(data_dir: Path, target: Path) -> None:
    """Let pg_basebackup copy the cluster of the node that runs here."""
    user = by_uid(os.geteuid())
    assert user is not None, "a node runs here as this user"
    sockets = socket_directory(data_dir, user.uid, os.environ)
    run(
        "pg_basebackup",
        f"--pgdata={target}",
        f"--host={sockets}",
        "--username=postgres",
        "--no-password",
        "--checkpoint=fast",
        "--wal-method=stream",
        "--manifest-checksums=SHA256",
        *(["--progress"] if sys.stderr.isatty() else []),
        todo="Run it as the user of the node, and look at what it says above.",
    )


def copy_results(source: Path, target: Path) -> dict[str, str]:
    """Copy stored results; returns SHA-256 by name. One that is collected meanwhile is left out."""
    target.mkdir(mode=0o700)
    hashes: dict[str, str] = {}
    for path in files_in(source):
        name = path.relative_to(source)
        goal = target / name
        goal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, goal)
        except FileNotFoundError:
            continue
        hashes[str(name)] = sha256_of(goal)
    return hashes


def verify(backup: Path, *, say: Say = lambda _: None) -> About:
    """Hold a backup against its manifests; raises `BackupRefused` with the first thing wrong."""
    about = read_about(backup)
    say("database")
    run(
        "pg_verifybackup",
        "--quiet",
        str(backup / POSTGRES),
        todo="Name another backup; while the node lives, take one.",
    )
    say("results")
    told = {line[66:]: line[:64] for line in lines_of(backup / HASHES)}
    there = {str(path.relative_to(backup / BLOBS)) for path in files_in(backup / BLOBS)}
    if told.keys() != there:
        astray = sorted(told.keys() ^ there)
        raise BackupRefused(
            f"{backup / BLOBS}: {astray[0]} is astray.",
            "Name another backup; while the node lives, take one.",
        )
    for name, digest in told.items():
        if sha256_of(backup / BLOBS / name) != digest:
            raise BackupRefused(f"{backup / BLOBS / name} is not what it was.", "Take another.")
    return about


def wal_after(backup: Path) -> received.Reach | None:
    """Read the WAL that was received since a backup; None = none was. Raises `BackupRefused`."""
    start = received.start_of(backup / POSTGRES)
    return received.verify(received.of(backup.absolute().parent, start), start)


def taken_s(about: About) -> float:
    """Return when a backup was begun, in seconds since 1970."""
    return datetime.fromisoformat(about.taken_at).timestamp()


def read_about(backup: Path) -> About:
    """Return what a backup says of itself."""
    try:
        said: dict[str, Any] = json.loads((backup / ABOUT).read_text())
        return About(**said)
    except (OSError, ValueError, TypeError) as error:
        raise BackupRefused(
            f"{backup} is no whole backup: {ABOUT} cannot be read ({error}).",
            "Name a directory that `dpp backup` made.",
        ) from error


def files_in(root: Path) -> Iterator[Path]:
    """Yield the files below a directory, in order; a write that was cut short is none."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.name.startswith(UNFINISHED):
            yield path


def lines_of(path: Path) -> list[str]:
    """Read the lines of a file."""
    try:
        return path.read_text().splitlines()
    except OSError as error:
        raise BackupRefused(f"{path} cannot be read: {error.strerror}.", "Take another.") from error


def sha256_of(path: Path) -> str:
    """Return the hash of a file, as sha256sum prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
