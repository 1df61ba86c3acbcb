"""The machine's facts: its clock, its disks, its limits, and who owns the node's files."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dpp import accounts, datadir
from dpp.certificates import NoCertificate, ends_of
from dpp.descriptors import OWN
from dpp.diagnosis.checks import Unknown
from dpp.diagnosis.fleet import DataFiles
from dpp.diagnosis.machine import Descriptors, Expiry, Home, Owned, Room
from dpp.store.programs import wheel_programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

TIME_ERROR = 5  # adjtimex(2): "the system clock is not synchronized"
TIMEX_BYTES = 512  # struct timex takes 208; all zero, it asks and sets nothing
DAY_S = 86_400
OURS = (datadir.ADMIN_TOKEN, datadir.NODE_ID, datadir.BLOBS)


def synchronised() -> bool | Unknown:
    """Ask the kernel whether something keeps its clock.

    Not `timedatectl`: it needs systemd and its bus, and asks the same.
    """
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(
            ctypes.create_string_buffer(TIMEX_BYTES)
        )
    except (AttributeError, OSError) as error:
        return Unknown(f"this system has no adjtimex ({error})")
    if answer < 0:
        return Unknown(f"adjtimex: {os.strerror(ctypes.get_errno())}")
    return bool(answer != TIME_ERROR)


def rooms(data_dir: Path, *, embedded: bool, results: bool) -> list[Room] | Unknown:
    """Return what is free where the node writes. `results`: large ones lie there, too."""
    places = [("data", data_dir)]
    if embedded:
        places.append(("WAL", data_dir / datadir.POSTGRES / "pg_wal"))
    if results:
        places.append(("results", data_dir / datadir.BLOBS))
    try:
        return [_room(what, path) for what, path in places]
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")


def _room(what: str, path: Path) -> Room:
    """Look at the file system that this path has, or will have once it is made."""
    there = next(one for one in (path, *path.parents) if _exists(one))
    found = os.statvfs(there)
    inodes = found.f_favail if found.f_files else None
    return Room(what, str(there), found.f_bavail * found.f_frsize, inodes)


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False  # what lies in a closed directory mostly lies on its disk
    return True


def limits(connections: int, node: datadir.RunningNode | None) -> Descriptors:
    """Return the limit of open files of the node that runs, else of this command."""
    wanted = connections + OWN
    if node is not None:
        with suppress(OSError, StopIteration, IndexError):
            return Descriptors(_hard_limit(node.pid), wanted, f"the node (pid {node.pid})")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Descriptors(None if hard == resource.RLIM_INFINITY else hard, wanted, "this user")


def _hard_limit(pid: int) -> int | None:
    lines = Path(f"/proc/{pid}/limits").read_text("utf-8").splitlines()
    line = next(line for line in lines if line.startswith("Max open files"))
    word = line.split()[4]
    return None if word == "unlimited" else int(word)


def home(path: Path, node: datadir.RunningNode | None) -> Home | Unknown | None:
    """Return whose the data directory is, and how open; None: there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Unknown(f"{path}: {error.strerror}")
    node_uid = _runs_as(node) or found.st_uid if node is not None else found.st_uid
    return Home(
        path=str(path),
        mode=stat.S_IMODE(found.st_mode),
        owner=found.st_uid,
        user=os.geteuid(),
        user_name=_name(os.geteuid()),
        owner_name=_name(node_uid),
        node_uid=node_uid,
        files=_files(path, node_uid),
    )


def _runs_as(node: datadir.RunningNode) -> int | None:
    with suppress(OSError):
        return Path(f"/proc/{node.pid}").stat().st_uid
    return None


def _name(uid: int) -> str:
    account = accounts.by_uid(uid)
    return account.name if account else str(uid)


def _files(path: Path, node_uid: int) -> list[Owned] | Unknown:
    """Look at what holds a secret or somebody's data; PostgreSQL's user may be another."""
    wanted: dict[str, int | None] = dict.fromkeys(OURS, node_uid)
    try:
        return list(_owned(path, {**wanted, datadir.POSTGRES: None}))
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")


def _owned(path: Path, wanted: dict[str, int | None]) -> Iterator[Owned]:
    for name, uid in wanted.items():
        with suppress(FileNotFoundError):
            found = (path / name).stat()
            yield Owned(str(path / name), stat.S_IMODE(found.st_mode), found.st_uid, uid)


def database_files(path: Path) -> DataFiles | Unknown | None:
    """Return the version of the embedded cluster's files; None: there are none."""
    file = path / datadir.POSTGRES / "PG_VERSION"
    try:
        return DataFiles(file.read_text("ascii").strip(), wheel_programs().major)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unknown(f"{file}: {error.strerror}")


def expiries(files: Sequence[tuple[str, Path]], now: datetime) -> list[Expiry]:
    """Return when the first certificate of each file ends. `files`: the setting, and its path."""
    return [Expiry(setting, str(path), _days(path, now)) for setting, path in files]


def _days(path: Path, now: datetime) -> float | Unknown:
    try:
        end = min(ends_of(path.read_text("ascii")))
    except OSError as error:
        return Unknown(error.strerror or str(error))
    except (NoCertificate, UnicodeDecodeError) as error:
        return Unknown(str(error))
    return (end - now).total_seconds() / DAY_S
