"""Small files and directories, written so that a crash leaves the old or the new, never a half.

Modes are set on the open file, so no umask weakens or tightens them. A name that exists already as
a symbolic link is replaced or refused, never followed.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

UNFINISHED = ".new-"  # a write that a crash cut short; whoever owns the directory may delete it


def write_file(path: Path, text: str, *, mode: int = 0o600, gid: int = -1) -> None:
    """Make `path` hold `text`: temporary name, sync, rename, sync of the directory."""
    descriptor, temporary = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _give(descriptor, -1, gid)
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).rename(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def make_dir(path: Path, *, mode: int, uid: int = -1, gid: int = -1) -> None:
    """Make `path` a directory with this mode and owner; one that is there is brought to them."""
    with suppress(FileExistsError):
        path.mkdir(0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _give(descriptor, uid, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _give(descriptor: int, uid: int, gid: int) -> None:
    """Bring an open file to this owner and group; -1 leaves it.

    Only where something changes: a sandbox may forbid the call, and there nothing does.
    """
    found = os.fstat(descriptor)
    if uid not in {-1, found.st_uid} or gid not in {-1, found.st_gid}:
        os.fchown(descriptor, uid, gid)


def sync_dir(path: Path) -> None:
    """Make the names in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
